"""The SDK's spans and log records in the shape that the encoder reads (delivery/records.py).

What the SDK's own `record_exception` wrote of an exception loses its URLs' values here: the engine's spans never had
them (signals/exceptions.py).
"""

from __future__ import annotations

from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace.status import Status

from otelkit.delivery.plain import Counted, PlainDetails, PlainEvent
from otelkit.delivery.records import REMOTE_PARENT, Attributes, Scope, SpanDetails, SpanEvent
from otelkit.signals import urls


class SdkSpan:
    """An ended span of the SDK."""

    __slots__ = (
        "_span",
        "end_time",
        "flags",
        "instrumentation_scope",
        "kind",
        "name",
        "own",
        "parent_id",
        "slot",
        "span_id",
        "start_time",
        "trace_id",
        "trace_state",
    )
    shared = bound = None
    slot: int

    def __init__(self, span: ReadableSpan) -> None:
        context, parent = span.context, span.parent
        assert context is not None
        self.name = span.name
        self.trace_id = context.trace_id
        self.span_id = context.span_id
        self.trace_state = context.trace_state
        self.parent_id = parent.span_id if parent is not None else 0
        self.flags = int(context.trace_flags) & 0xFF | (REMOTE_PARENT if parent is not None and parent.is_remote else 0)
        self.kind = span.kind
        self.start_time = span.start_time
        self.end_time = span.end_time
        self.own = Counted(span.attributes or {}, span.dropped_attributes)
        self._span = span
        self.instrumentation_scope = span.instrumentation_scope

    @property
    def details(self) -> SpanDetails:
        """Read as the span is encoded."""
        span = self._span
        description, events = span.status.description, span.events
        if not description and not events:
            return span
        status = Status(span.status.status_code, urls.without_values(description)) if description else span.status
        return PlainDetails(
            status, [_without_values(event) for event in events], span.links, span.dropped_events, span.dropped_links
        )


def _without_values(event: Event) -> SpanEvent:
    if event.name != "exception" or not event.attributes:
        return event
    found = {
        key: urls.without_values(value) if type(value) is str else value for key, value in event.attributes.items()
    }
    return PlainEvent(event.name, event.timestamp, found, event.dropped_attributes)


class SdkLogRecord:
    """A log record of the SDK; read when it is encoded, after every processor."""

    __slots__ = ("_data", "_record", "slot")
    shared = bound = None

    def __init__(self, record: ReadWriteLogRecord) -> None:
        self._record = record
        self._data = record.log_record

    @property
    def timestamp(self) -> int | None:
        return self._data.timestamp

    @property
    def observed_timestamp(self) -> int | None:
        return self._data.observed_timestamp

    @property
    def severity_number(self) -> int:
        return getattr(self._data.severity_number, "value", 0)  # whatever an application gave

    @property
    def severity_text(self) -> str | None:
        return self._data.severity_text

    @property
    def body(self) -> object:
        return self._data.body

    @property
    def event_name(self) -> str | None:
        return self._data.event_name

    @property
    def trace_id(self) -> int:
        return self._data.trace_id or 0

    @property
    def span_id(self) -> int:
        return self._data.span_id or 0

    @property
    def flags(self) -> int:
        return int(self._data.trace_flags or 0)

    @property
    def own(self) -> Attributes | None:
        return self._data.attributes

    @property
    def instrumentation_scope(self) -> Scope | None:
        return self._record.instrumentation_scope
