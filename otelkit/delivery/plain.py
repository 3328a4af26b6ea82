"""Spans and log records as plain data, in the encoder's shape (records.py): what was cut, or read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.trace.status import Status

from otelkit.delivery.records import Attributes, Scope, Shared, SpanDetails, SpanEvent


class Counted(dict[str, Any]):
    """Attributes with the number of those that were dropped."""

    __slots__ = ("dropped",)

    def __init__(self, attributes: object = (), dropped: int = 0) -> None:
        super().__init__(attributes)  # type: ignore[call-overload]
        self.dropped = dropped


@dataclass(slots=True)
class PlainEvent:
    """An event of a span."""

    name: str
    timestamp: int
    attributes: Attributes
    dropped_attributes: int


@dataclass(slots=True)
class PlainDetails:
    """What few spans have."""

    status: Status
    events: Sequence[SpanEvent] = ()
    links: Sequence[Link] = ()
    dropped_events: int = 0
    dropped_links: int = 0


@dataclass(slots=True)
class PlainSpan:
    """An ended span; `slot` is the flight recorder's (recorder.py)."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int
    flags: int
    kind: SpanKind
    start_time: int | None
    end_time: int | None
    own: Attributes | None = None
    shared: Shared | None = None
    bound: Shared | None = None
    details: SpanDetails | None = None
    trace_state: TraceState | None = None
    instrumentation_scope: Scope | None = None
    slot: int | None = None


@dataclass(slots=True)
class PlainLog:
    """A log record."""

    body: object
    severity_number: int
    severity_text: str | None
    timestamp: int | None
    observed_timestamp: int | None
    trace_id: int
    span_id: int
    flags: int
    event_name: str | None
    own: Attributes | None = None
    shared: Shared | None = None
    bound: Shared | None = None
    instrumentation_scope: Scope | None = None
    slot: int | None = None
