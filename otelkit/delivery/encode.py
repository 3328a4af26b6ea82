"""Encodes batches of records as OTLP requests, byte for byte by hand: a fraction of the cost of protobuf objects.

Field numbers are those of opentelemetry-proto 1.x (opentelemetry/proto/*/v1/*.proto); the tests decode every message
with the generated classes. Attribute values outside OTLP's types become their text, an int beyond 64 bits too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from opentelemetry.trace import SpanContext

from otelkit.delivery.encode_metrics import MetricsEncoder
from otelkit.delivery.records import Attributes, LogRecord, Scope, SpanRecord
from otelkit.delivery.wire import pack_double, pack_fixed32, pack_fixed64, sized, utf8, varint

R = TypeVar("R", SpanRecord, LogRecord)

_CACHED_ATTRIBUTES = 4096
_CACHED_SCOPES = 512
_INT64 = range(-(1 << 63), 1 << 63)
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200


class ValueEncoder:
    """Encodes attributes, with a bounded cache of those that come again."""

    def __init__(self) -> None:
        self._cache: dict[tuple[str, object, type], bytes] = {}

    def attributes(self, tag: bytes, attributes: Attributes | None) -> bytes:
        """Every attribute as a KeyValue field with this tag."""
        if not attributes:
            return b""
        cache = self._cache
        parts = []
        for key, value in attributes.items():
            kind = type(value)
            if kind is str or kind is int or kind is bool:
                slot = (key, value, kind)
                pair = cache.get(slot)
                if pair is None:
                    pair = self._pair(key, value)
                    if len(pair) < 256:
                        if len(cache) >= _CACHED_ATTRIBUTES:
                            cache.clear()
                        cache[slot] = pair
            else:
                pair = self._pair(key, value)
            parts.append(tag)
            parts.append(pair)
        return b"".join(parts)

    def _pair(self, key: str, value: object) -> bytes:
        content = sized(b"\x0a", utf8(key)) + sized(b"\x12", self.value(value))
        return varint(len(content)) + content

    def value(self, value: object) -> bytes:
        """The content of an AnyValue; None is an empty one."""
        if value is None:
            return b""
        if isinstance(value, str):
            return sized(b"\x0a", utf8(value))
        if isinstance(value, bool):
            return b"\x10\x01" if value else b"\x10\x00"
        if isinstance(value, int) and value in _INT64:
            return b"\x18" + varint(int(value))
        if isinstance(value, float):
            return b"\x21" + pack_double(value)
        if isinstance(value, (bytes, bytearray)):
            return sized(b"\x3a", bytes(value))
        if isinstance(value, Mapping):
            pairs = (b"\x0a" + self._pair(str(key), item) for key, item in value.items())
            return sized(b"\x32", b"".join(pairs))
        if isinstance(value, (Sequence, set, frozenset)):
            return sized(b"\x2a", b"".join(sized(b"\x0a", self.value(item)) for item in value))
        return sized(b"\x0a", utf8(str(value)))


class Encoder:
    """Encodes batches for one service; not thread-safe, the worker thread owns it.

    `resources` are the attributes of each signal's resource.
    """

    def __init__(self, resources: Mapping[str, Attributes]) -> None:
        self._values = ValueEncoder()
        self._resources = {
            signal: sized(b"\x0a", self._values.attributes(b"\x0a", attributes))
            for signal, attributes in resources.items()
        }
        self._scopes: dict[tuple[str, str | None, str | None], bytes] = {}
        self._metrics = MetricsEncoder(self._values, self._scope)

    def spans(self, batch: Sequence[SpanRecord]) -> tuple[bytes, int]:
        """An ExportTraceServiceRequest, and how many spans could not be encoded."""
        return self._grouped(self._resources["traces"], batch, self._span)

    def logs(self, batch: Sequence[LogRecord]) -> tuple[bytes, int]:
        """An ExportLogsServiceRequest, and how many records could not be encoded."""
        return self._grouped(self._resources["logs"], batch, self._log)

    def metrics(self, data: object) -> tuple[bytes, int]:
        """An ExportMetricsServiceRequest of a MetricsData, and how many points could not be encoded."""
        return self._metrics.request(self._resources["metrics"], data)

    def _grouped(self, resource: bytes, batch: Iterable[R], encode: Callable[[R], bytes]) -> tuple[bytes, int]:
        groups: dict[int, tuple[Scope | None, list[bytes]]] = {}
        failed = 0
        for record in batch:
            try:
                encoded = encode(record)
            except Exception:  # noqa: BLE001 - one broken record must not take its batch along; it is counted
                failed += 1
                continue
            scope = record.instrumentation_scope
            group = groups.get(id(scope))
            if group is None:
                group = groups[id(scope)] = (scope, [])
            group[1].append(sized(b"\x12", encoded))
        scopes = [
            sized(b"\x12", self._scope(scope) + b"".join(parts) + self._schema(scope))
            for scope, parts in groups.values()
        ]
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
            encoded = sized(b"\x0a", content + self._values.attributes(b"\x1a", scope.attributes))
            if not scope.attributes:
                if len(self._scopes) >= _CACHED_SCOPES:
                    self._scopes.clear()
                self._scopes[key] = encoded
        return encoded

    @staticmethod
    def _schema(scope: Scope | None) -> bytes:
        return sized(b"\x1a", utf8(scope.schema_url)) if scope is not None and scope.schema_url else b""

    def _span(self, span: SpanRecord) -> bytes:
        context = span.context
        parent = span.parent
        attributes = self._values.attributes
        parts = [
            b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big"),
            sized(b"\x2a", utf8(span.name)),
            b"\x30" + varint(span.kind.value + 1),
            b"\x39" + pack_fixed64(span.start_time or 0) + b"\x41" + pack_fixed64(span.end_time or 0),
            attributes(b"\x4a", span.attributes),
        ]
        add = parts.append
        if context.trace_state:
            add(sized(b"\x1a", utf8(context.trace_state.to_header())))
        if parent is not None:
            add(b"\x22\x08" + parent.span_id.to_bytes(8, "big"))
        if span.dropped_attributes:
            add(b"\x50" + varint(span.dropped_attributes))
        for event in span.events:
            content = b"\x09" + pack_fixed64(event.timestamp) + sized(b"\x12", utf8(event.name))
            content += attributes(b"\x1a", event.attributes)
            if event.dropped_attributes:
                content += b"\x20" + varint(event.dropped_attributes)
            add(sized(b"\x5a", content))
        if span.dropped_events:
            add(b"\x60" + varint(span.dropped_events))
        for link in span.links:
            linked = link.context
            content = b"\x0a\x10" + linked.trace_id.to_bytes(16, "big")
            content += b"\x12\x08" + linked.span_id.to_bytes(8, "big")
            if linked.trace_state:
                content += sized(b"\x1a", utf8(linked.trace_state.to_header()))
            content += attributes(b"\x22", link.attributes)
            if dropped := link.dropped_attributes:
                content += b"\x28" + varint(dropped)
            add(sized(b"\x6a", content + b"\x35" + pack_fixed32(_flags(linked, linked))))
        if span.dropped_links:
            add(b"\x70" + varint(span.dropped_links))
        status = span.status
        if status.status_code.value:
            content = sized(b"\x12", utf8(status.description)) if status.description else b""
            add(sized(b"\x7a", content + b"\x18" + varint(status.status_code.value)))
        add(b"\x85\x01" + pack_fixed32(_flags(context, parent)))
        return b"".join(parts)

    def _log(self, record: LogRecord) -> bytes:
        data = record.log_record
        parts: list[bytes] = []
        add = parts.append
        if data.timestamp:
            add(b"\x09" + pack_fixed64(data.timestamp))
        severity = data.severity_number
        if severity is not None and severity.value:
            add(b"\x10" + varint(severity.value))
        if data.severity_text:
            add(sized(b"\x1a", utf8(data.severity_text)))
        if data.body is not None:
            add(sized(b"\x2a", self._values.value(data.body)))
        add(self._values.attributes(b"\x32", data.attributes))
        if record.dropped_attributes:
            add(b"\x38" + varint(record.dropped_attributes))
        if data.trace_id:
            add(b"\x45" + pack_fixed32(int(data.trace_flags or 0)))
            add(b"\x4a\x10" + data.trace_id.to_bytes(16, "big"))
        if data.span_id:
            add(b"\x52\x08" + data.span_id.to_bytes(8, "big"))
        if data.observed_timestamp:
            add(b"\x59" + pack_fixed64(data.observed_timestamp))
        if data.event_name:
            add(sized(b"\x62", utf8(data.event_name)))
        return b"".join(parts)


def _flags(context: SpanContext, origin: SpanContext | None) -> int:
    """The W3C trace flags of a context, and whether `origin` (a span's parent, a link's own context) is remote."""
    remote = _IS_REMOTE if origin is not None and origin.is_remote else 0
    return int(context.trace_flags) & 0xFF | _HAS_IS_REMOTE | remote
