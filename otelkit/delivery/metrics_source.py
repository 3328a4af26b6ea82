"""Where metrics come from, as the pipeline sees it, and what it is handed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from opentelemetry.sdk.metrics.export import MetricsData

from otelkit.delivery.records import Attributes


class MetricsSource(Protocol):
    """Whoever owns the metrics; it hands collections to `Pipeline.metrics`. Called by the worker, but for
    `acknowledged`.
    """

    def tick(self) -> float:
        """Does what is due; returns in how many seconds to call it again."""

    def flush(self) -> int:
        """Collects now, or has another process do it: then returns what to ask `acknowledged` for, else 0."""

    def acknowledged(self, request: int, deadline: float, /) -> bool:
        """Waits for what another process sends, until `deadline` (monotonic) at the latest."""

    def leave(self) -> None:
        """Collects for the last time; a later `tick` collects nothing."""

    def abandon(self) -> None:
        """In a forked child: lets go of what is the parent's."""


class Collection(NamedTuple):
    """One collection on its way to the encoder; `key` as for `Pipeline.metrics`."""

    data: MetricsData
    points: int
    resource: Attributes
    delivered: Callable[[], None] | None
    key: int
