"""Encodes batches of records as OTLP requests, byte for byte by hand: a fraction of the cost of protobuf objects.

Field numbers are those of opentelemetry-proto 1.x (opentelemetry/proto/*/v1/*.proto); the tests decode every message
with the generated classes. Attribute values outside OTLP's types become their text, an int beyond 64 bits too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from opentelemetry.trace import Link, SpanKind

from otelkit.delivery.attributes import AttributeEncoder, Redaction
from otelkit.delivery.encode_metrics import MetricsEncoder
from otelkit.delivery.records import REMOTE_PARENT, Attributes, LogRecord, Scope, Scoped, SpanDetails, SpanRecord
from otelkit.delivery.wire import pack_fixed32, pack_fixed64, sized, utf8, varint

K = TypeVar("K")
R = TypeVar("R", bound=Scoped)

_CACHED_SCOPES = 512
_CACHED_NAMES = 2048  # and severities
_LONGEST_CACHED_NAME = 256  # bytes
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200
SPAN_ATTRIBUTE = b"\x4a"
_LOG_ATTRIBUTE = b"\x32"
_TIMES = struct.Struct("<cQcQ").pack
_IDS = struct.Struct(">2sQQ2sQ").pack  # of a trace, in two halves, and of a span
_IDS_BELOW = struct.Struct(">2sQQ2sQ2sQ").pack  # and of the span above
_LOWER_HALF = (1 << 64) - 1
_KINDS = {id(kind): b"\x30" + varint(kind.value + 1) for kind in SpanKind}  # an enum's hash is a function in Python
_FLAGS = {
    flags | remote: b"\x85\x01" + pack_fixed32(flags | _HAS_IS_REMOTE | (_IS_REMOTE if remote else 0))
    for flags in range(256)
    for remote in (0, REMOTE_PARENT)
}
_LOG_FLAGS = tuple(b"\x45" + pack_fixed32(flags) for flags in range(256))


class Encoder:
    """Encodes batches for one service; not thread-safe, the worker thread owns it.

    `resources` are the attributes of the resource of spans (`traces`) and of `logs`; metrics have theirs with each
    collection. A text that is longer than `longest_bytes` is cut.
    """

    def __init__(
        self,
        resources: Mapping[str, Attributes],
        redaction: Redaction | None = None,
        longest_bytes: int | None = None,
    ) -> None:
        self._attributes = AttributeEncoder(redaction, longest_bytes)
        self._plain = AttributeEncoder(None)  # the resource is the operator's own
        self._resources = {signal: self._resource(attributes) for signal, attributes in resources.items()}
        self._scopes: dict[tuple[str, str | None, str | None], bytes] = {}
        self._names: dict[str, bytes] = {}
        self._severities: dict[tuple[int, str | None], bytes] = {}
        self._metrics = MetricsEncoder(self._attributes, self._scope)

    def spans(self, batch: Sequence[SpanRecord]) -> tuple[bytes, int]:
        """An ExportTraceServiceRequest, and how many spans could not be encoded."""
        return self._grouped(self._resources["traces"], batch, self._span)

    def logs(self, batch: Sequence[LogRecord]) -> tuple[bytes, int]:
        """An ExportLogsServiceRequest, and how many records could not be encoded."""
        return self._grouped(self._resources["logs"], batch, self._log)

    def metrics(self, data: object, resource: Attributes) -> tuple[bytes, int]:
        """An ExportMetricsServiceRequest of a MetricsData, and how many points could not be encoded."""
        return self._metrics.request(self._resource(resource), data)

    def take_cut(self) -> int:
        """How many texts were cut since the last call."""
        cut, self._attributes.cut = self._attributes.cut, 0
        return cut

    def _resource(self, attributes: Attributes) -> bytes:
        return sized(b"\x0a", self._plain.fields(b"\x0a", attributes))

    def _grouped(self, resource: bytes, batch: Iterable[R], encode: Callable[[R], bytes]) -> tuple[bytes, int]:
        groups: dict[int, tuple[Scope | None, list[bytes]]] = {}  # holds the scope too, so that its id stays its own
        failed = 0
        for record in batch:
            try:
                encoded = encode(record)
                scope = record.instrumentation_scope
                group = groups.get(id(scope))
                if group is None:
                    group = groups[id(scope)] = (scope, [self._scope(scope) + self._schema(scope)])
            except Exception:  # noqa: BLE001 - one broken record must not take its batch along; it is counted
                failed += 1
                continue
            group[1].extend((b"\x12", varint(len(encoded)), encoded))
        scopes = [sized(b"\x12", b"".join(parts)) for _, parts in groups.values()]
        return (sized(b"\x0a", resource + b"".join(scopes)) if scopes else b""), failed

    def _scope(self, scope: Scope | None) -> bytes:
        if scope is None:
            return b""
        key = (scope.name, scope.version, scope.schema_url)
        encoded = None if scope.attributes else self._scopes.get(key)
        if encoded is None:
            content = sized(b"\x0a", utf8(scope.name))
            if scope.version:
                content += sized(b"\x12", utf8(scope.version))
            encoded = sized(b"\x0a", content + self._attributes.fields(b"\x1a", scope.attributes))
            if not scope.attributes:
                if len(self._scopes) >= _CACHED_SCOPES:
                    self._scopes.clear()
                self._scopes[key] = encoded
        return encoded

    @staticmethod
    def _schema(scope: Scope | None) -> bytes:
        return sized(b"\x1a", utf8(scope.schema_url)) if scope is not None and scope.schema_url else b""

    def _name(self, name: str) -> bytes:
        """The field of a span's name."""
        return _keep(self._names, name, sized(b"\x2a", utf8(name)))

    def _span(self, span: SpanRecord) -> bytes:
        attributes = self._attributes
        own, shared, bound, details, name = span.own, span.shared, span.bound, span.details, span.name
        trace_id, parent_id = span.trace_id, span.parent_id
        high, low = trace_id >> 64, trace_id & _LOWER_HALF
        return b"".join((
            _IDS_BELOW(b"\x0a\x10", high, low, b"\x12\x08", span.span_id, b"\x22\x08", parent_id)
            if parent_id
            else _IDS(b"\x0a\x10", high, low, b"\x12\x08", span.span_id),
            self._names.get(name) or self._name(name),
            _KINDS[id(span.kind)],
            _TIMES(b"\x39", span.start_time or 0, b"\x41", span.end_time or 0),
            attributes.shared(SPAN_ATTRIBUTE, shared) if shared else b"",
            attributes.shared(SPAN_ATTRIBUTE, bound) if bound else b"",
            attributes.fields(SPAN_ATTRIBUTE, own) if own else b"",
            _FLAGS[span.flags],
            sized(b"\x1a", utf8(span.trace_state.to_header())) if span.trace_state else b"",
            b"\x50" + varint(dropped) if own is not None and (dropped := getattr(own, "dropped", 0)) else b"",
            self._details(details) if details is not None else b"",
        ))  # fmt: skip

    def _details(self, details: SpanDetails) -> bytes:
        attributes = self._attributes.fields
        parts: list[bytes] = []
        add = parts.append
        for event in details.events:
            content = b"\x09" + pack_fixed64(event.timestamp) + sized(b"\x12", utf8(event.name))
            content += attributes(b"\x1a", event.attributes)
            if event.dropped_attributes:
                content += b"\x20" + varint(event.dropped_attributes)
            add(sized(b"\x5a", content))
        if details.dropped_events:
            add(b"\x60" + varint(details.dropped_events))
        for link in details.links:
            add(sized(b"\x6a", self._link(link)))
        if details.dropped_links:
            add(b"\x70" + varint(details.dropped_links))
        status = details.status
        if status.status_code.value:
            content = sized(b"\x12", utf8(status.description)) if status.description else b""
            add(sized(b"\x7a", content + b"\x18" + varint(status.status_code.value)))
        return b"".join(parts)

    def _link(self, link: Link) -> bytes:
        linked = link.context
        content = b"\x0a\x10" + linked.trace_id.to_bytes(16, "big") + b"\x12\x08" + linked.span_id.to_bytes(8, "big")
        if linked.trace_state:
            content += sized(b"\x1a", utf8(linked.trace_state.to_header()))
        content += self._attributes.fields(b"\x22", link.attributes)
        if dropped := link.dropped_attributes:
            content += b"\x28" + varint(dropped)
        flags = int(linked.trace_flags) & 0xFF | _HAS_IS_REMOTE | (_IS_REMOTE if linked.is_remote else 0)
        return content + b"\x35" + pack_fixed32(flags)

    def _log(self, record: LogRecord) -> bytes:
        attributes = self._attributes
        own, shared, bound, body = record.own, record.shared, record.bound, record.body
        trace_id, span_id = record.trace_id, record.span_id
        severity = record.severity_number, record.severity_text
        return b"".join((
            _TIMES(b"\x09", record.timestamp or 0, b"\x59", record.observed_timestamp or 0),
            self._severities.get(severity) or self._severity(*severity),
            sized(b"\x2a", attributes.value(body)) if body is not None else b"",
            attributes.shared(_LOG_ATTRIBUTE, shared) if shared else b"",
            attributes.shared(_LOG_ATTRIBUTE, bound) if bound else b"",
            attributes.fields(_LOG_ATTRIBUTE, own) if own else b"",
            b"\x38" + varint(dropped) if own is not None and (dropped := getattr(own, "dropped", 0)) else b"",
            _LOG_FLAGS[record.flags]
            + _IDS(b"\x4a\x10", trace_id >> 64, trace_id & _LOWER_HALF, b"\x52\x08", span_id)
            if trace_id and span_id and record.flags < len(_LOG_FLAGS)
            else _where(record),
            sized(b"\x62", utf8(record.event_name)) if record.event_name else b"",
        ))  # fmt: skip

    def _severity(self, number: int, text: str | None) -> bytes:
        """The fields of a severity."""
        encoded = (b"\x10" + varint(number) if number else b"") + (sized(b"\x1a", utf8(text)) if text else b"")
        return _keep(self._severities, (number, text), encoded)


def _where(record: LogRecord) -> bytes:
    """The span that a log record belongs to, where it has none, or half of one."""
    found = b""
    if record.trace_id:
        found += b"\x45" + pack_fixed32(record.flags) + b"\x4a\x10" + record.trace_id.to_bytes(16, "big")
    if record.span_id:
        found += b"\x52\x08" + record.span_id.to_bytes(8, "big")
    return found


def _keep(cache: dict[K, bytes], key: K, encoded: bytes) -> bytes:
    if len(encoded) <= _LONGEST_CACHED_NAME:
        if len(cache) >= _CACHED_NAMES:
            cache.clear()
        cache[key] = encoded
    return encoded
