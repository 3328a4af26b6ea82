"""What the encoder needs of a record: narrow protocols that the SDK's records satisfy and the engine's will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from opentelemetry.trace import Link, SpanContext, SpanKind
from opentelemetry.trace.status import Status

Attributes = Mapping[str, object]


class Scope(Protocol):
    """An instrumentation scope."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def schema_url(self) -> str | None: ...
    @property
    def attributes(self) -> Attributes | None: ...


class SpanEvent(Protocol):
    """An event of a span; times are nanoseconds since the epoch."""

    @property
    def name(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def attributes(self) -> Attributes | None: ...
    @property
    def dropped_attributes(self) -> int: ...


class SpanRecord(Protocol):
    """An ended span; times are nanoseconds since the epoch."""

    @property
    def name(self) -> str: ...
    @property
    def context(self) -> SpanContext: ...
    @property
    def parent(self) -> SpanContext | None: ...
    @property
    def kind(self) -> SpanKind: ...
    @property
    def start_time(self) -> int | None: ...
    @property
    def end_time(self) -> int | None: ...
    @property
    def attributes(self) -> Attributes | None: ...
    @property
    def events(self) -> Sequence[SpanEvent]: ...
    @property
    def links(self) -> Sequence[Link]: ...
    @property
    def status(self) -> Status: ...
    @property
    def instrumentation_scope(self) -> Scope | None: ...
    @property
    def dropped_attributes(self) -> int: ...
    @property
    def dropped_events(self) -> int: ...
    @property
    def dropped_links(self) -> int: ...


class Severity(Protocol):
    """A severity number of the log data model."""

    @property
    def value(self) -> int: ...


class LogData(Protocol):
    """The data of a log record; times are nanoseconds since the epoch, 0 or None where unknown."""

    timestamp: int | None
    observed_timestamp: int | None
    trace_id: int | None
    span_id: int | None
    severity_text: str | None
    body: object
    event_name: str | None

    @property
    def trace_flags(self) -> int | None: ...
    @property
    def severity_number(self) -> Severity | None: ...
    @property
    def attributes(self) -> Attributes | None: ...


class LogRecord(Protocol):
    """An emitted log record with its scope."""

    @property
    def log_record(self) -> LogData: ...
    @property
    def instrumentation_scope(self) -> Scope | None: ...
    @property
    def dropped_attributes(self) -> int: ...
