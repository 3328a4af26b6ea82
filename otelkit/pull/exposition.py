"""Metrics in the formats of Prometheus: otelkit's own, without labels for the scope, and the application's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from otelkit.engine.seams import ForklessMeterProvider
from otelkit.pull import registry

Collect = Callable[[], "MetricsData | None"]
"""All metrics as they are now; None where there are none."""


class _Translation(PrometheusMetricReader):
    """Translates what it is fed; of its own provider, which has no instruments, it collects nothing."""

    def feed(self, data: MetricsData) -> None:
        self._receive_metrics(data)


class Exposition:
    """What a scrape gets: what `collect` says, and what the application's own prometheus_client registry holds.

    Thread-safe: one scrape at a time, since the translation would mix two up. A family of the application's that has
    the name of one of otelkit's is left out.
    """

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._lock = Lock()
        self._families = CollectorRegistry()
        self._translation = _Translation(scope_info_enabled=False, registry=self._families)
        self._provider = ForklessMeterProvider(
            [self._translation], resource=Resource.get_empty(), shutdown_on_exit=False
        )
        self._all = CollectorRegistry()
        self._all.register(self)

    def text(self, accept: str) -> tuple[str, bytes]:
        """The content type and the body, in a format that the header `Accept` allows."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._all)

    def collect(self) -> Iterator[Any]:
        """The families, for prometheus_client."""
        with self._lock:
            data = self._collect()
            ours, shared = registry.apart(data)
            if ours is not None:
                self._translation.feed(ours)
            families = list(self._families.collect()) if ours is not None else []
            names = {family.name for family in families}
            theirs = registry.families_of(shared) if shared else registry.families()
            return iter([*families, *(family for family in theirs if family.name not in names)])
