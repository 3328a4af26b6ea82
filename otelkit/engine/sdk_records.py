"""The SDK's spans and log records in the shape that the encoder reads (delivery/records.py)."""

from __future__ import annotations

from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from otelkit.delivery.plain import Counted
from otelkit.delivery.records import REMOTE_PARENT, Attributes, Scope


class SdkSpan:
    """An ended span of the SDK."""

    __slots__ = (
        "details",
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
        self.details = span
        self.instrumentation_scope = span.instrumentation_scope


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
