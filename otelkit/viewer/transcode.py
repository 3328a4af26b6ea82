"""OTLP's JSON as protobuf, by a table of fields, so that there is one decoder.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids are hex, 64-bit integers may be texts, enums are
numbers (their names are taken too), unknown fields are ignored.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

from otelkit.delivery.wire import pack_fixed32, pack_fixed64, pack_sfixed64, sized, utf8, varint, zigzag
from otelkit.viewer.values import Malformed

_DEEPEST = 40
_DOUBLE = struct.Struct("<d").pack
Scalar = Callable[[Any], bytes]
Field = tuple[int, str | Scalar]
"""A field's number, and how its value is written: a message's name, or a function that makes its content."""


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Malformed("a number is expected")
    return int(value)


def _fixed64(value: Any) -> bytes:
    return pack_fixed64(_integer(value) & 0xFFFF_FFFF_FFFF_FFFF)


def _sfixed64(value: Any) -> bytes:
    return pack_sfixed64(_integer(value))


def _fixed32(value: Any) -> bytes:
    return pack_fixed32(_integer(value) & 0xFFFF_FFFF)


def _double(value: Any) -> bytes:
    return _DOUBLE(float(value))


def _varint(value: Any) -> bytes:
    return varint(_integer(value))


def _zigzag(value: Any) -> bytes:
    return zigzag(_integer(value))


def _bool(value: Any) -> bytes:
    return varint(1 if value is True or value == "true" else 0)


def _string(value: Any) -> bytes:
    if not isinstance(value, str):
        raise Malformed("a text is expected")
    return utf8(value)


def _hex(value: Any) -> bytes:
    return bytes.fromhex(_string(value).decode())


def _base64(value: Any) -> bytes:
    return base64.b64decode(_string(value))


def _enum(prefix: str, *names: str) -> Scalar:
    numbers = {f"{prefix}{name}": number for number, name in enumerate(names)}

    def write(value: Any) -> bytes:
        return varint(numbers[value] if value in numbers else _integer(value))

    return write


_KIND = _enum("SPAN_KIND_", "UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUS = _enum("STATUS_CODE_", "UNSET", "OK", "ERROR")
_TEMPORALITY = _enum("AGGREGATION_TEMPORALITY_", "UNSPECIFIED", "DELTA", "CUMULATIVE")
# The wire type of what is no length-delimited field.
_WIRE: dict[Scalar, int] = {_fixed64: 1, _sfixed64: 1, _double: 1, _fixed32: 5, _varint: 0, _zigzag: 0, _bool: 0}
_WIRE.update(dict.fromkeys((_KIND, _STATUS, _TEMPORALITY), 0))

MESSAGES: dict[str, dict[str, Field]] = {
    "traces": {"resourceSpans": (1, "ResourceSpans")},
    "logs": {"resourceLogs": (1, "ResourceLogs")},
    "metrics": {"resourceMetrics": (1, "ResourceMetrics")},
    "ResourceSpans": {"resource": (1, "Resource"), "scopeSpans": (2, "ScopeSpans"), "schemaUrl": (3, _string)},
    "ResourceLogs": {"resource": (1, "Resource"), "scopeLogs": (2, "ScopeLogs"), "schemaUrl": (3, _string)},
    "ResourceMetrics": {"resource": (1, "Resource"), "scopeMetrics": (2, "ScopeMetrics"), "schemaUrl": (3, _string)},
    "Resource": {"attributes": (1, "KeyValue")},
    "Scope": {"name": (1, _string), "version": (2, _string), "attributes": (3, "KeyValue")},
    "ScopeSpans": {"scope": (1, "Scope"), "spans": (2, "Span"), "schemaUrl": (3, _string)},
    "ScopeLogs": {"scope": (1, "Scope"), "logRecords": (2, "LogRecord"), "schemaUrl": (3, _string)},
    "ScopeMetrics": {"scope": (1, "Scope"), "metrics": (2, "Metric"), "schemaUrl": (3, _string)},
    "KeyValue": {"key": (1, _string), "value": (2, "AnyValue")},
    "AnyValue": {
        "stringValue": (1, _string),
        "boolValue": (2, _bool),
        "intValue": (3, _varint),
        "doubleValue": (4, _double),
        "arrayValue": (5, "ArrayValue"),
        "kvlistValue": (6, "KeyValueList"),
        "bytesValue": (7, _base64),
    },
    "ArrayValue": {"values": (1, "AnyValue")},
    "KeyValueList": {"values": (1, "KeyValue")},
    "Span": {
        "traceId": (1, _hex),
        "spanId": (2, _hex),
        "traceState": (3, _string),
        "parentSpanId": (4, _hex),
        "name": (5, _string),
        "kind": (6, _KIND),
        "startTimeUnixNano": (7, _fixed64),
        "endTimeUnixNano": (8, _fixed64),
        "attributes": (9, "KeyValue"),
        "events": (11, "Event"),
        "links": (13, "Link"),
        "status": (15, "Status"),
        "flags": (16, _fixed32),
    },
    "Event": {"timeUnixNano": (1, _fixed64), "name": (2, _string), "attributes": (3, "KeyValue")},
    "Link": {"traceId": (1, _hex), "spanId": (2, _hex), "traceState": (3, _string), "attributes": (4, "KeyValue")},
    "Status": {"message": (2, _string), "code": (3, _STATUS)},
    "LogRecord": {
        "timeUnixNano": (1, _fixed64),
        "severityNumber": (2, _varint),
        "severityText": (3, _string),
        "body": (5, "AnyValue"),
        "attributes": (6, "KeyValue"),
        "flags": (8, _fixed32),
        "traceId": (9, _hex),
        "spanId": (10, _hex),
        "observedTimeUnixNano": (11, _fixed64),
        "eventName": (12, _string),
    },
    "Metric": {
        "name": (1, _string),
        "description": (2, _string),
        "unit": (3, _string),
        "gauge": (5, "Gauge"),
        "sum": (7, "Sum"),
        "histogram": (9, "Histogram"),
        "exponentialHistogram": (10, "ExponentialHistogram"),
        "summary": (11, "Summary"),
    },
    "Gauge": {"dataPoints": (1, "NumberDataPoint")},
    "Sum": {
        "dataPoints": (1, "NumberDataPoint"),
        "aggregationTemporality": (2, _TEMPORALITY),
        "isMonotonic": (3, _bool),
    },
    "Histogram": {"dataPoints": (1, "HistogramDataPoint"), "aggregationTemporality": (2, _TEMPORALITY)},
    "ExponentialHistogram": {
        "dataPoints": (1, "ExponentialHistogramDataPoint"),
        "aggregationTemporality": (2, _TEMPORALITY),
    },
    "Summary": {"dataPoints": (1, "SummaryDataPoint")},
    "NumberDataPoint": {
        "attributes": (7, "KeyValue"),
        "startTimeUnixNano": (2, _fixed64),
        "timeUnixNano": (3, _fixed64),
        "asDouble": (4, _double),
        "asInt": (6, _sfixed64),
        "exemplars": (5, "Exemplar"),
        "flags": (8, _varint),
    },
    "HistogramDataPoint": {
        "attributes": (9, "KeyValue"),
        "startTimeUnixNano": (2, _fixed64),
        "timeUnixNano": (3, _fixed64),
        "count": (4, _fixed64),
        "sum": (5, _double),
        "bucketCounts": (6, _fixed64),
        "explicitBounds": (7, _double),
        "exemplars": (8, "Exemplar"),
        "flags": (10, _varint),
        "min": (11, _double),
        "max": (12, _double),
    },
    "ExponentialHistogramDataPoint": {
        "attributes": (1, "KeyValue"),
        "startTimeUnixNano": (2, _fixed64),
        "timeUnixNano": (3, _fixed64),
        "count": (4, _fixed64),
        "sum": (5, _double),
        "scale": (6, _zigzag),
        "zeroCount": (7, _fixed64),
        "positive": (8, "Buckets"),
        "negative": (9, "Buckets"),
        "flags": (10, _varint),
        "exemplars": (11, "Exemplar"),
        "min": (12, _double),
        "max": (13, _double),
        "zeroThreshold": (14, _double),
    },
    "Buckets": {"offset": (1, _zigzag), "bucketCounts": (2, _varint)},
    "SummaryDataPoint": {
        "attributes": (7, "KeyValue"),
        "startTimeUnixNano": (2, _fixed64),
        "timeUnixNano": (3, _fixed64),
        "count": (4, _fixed64),
        "sum": (5, _double),
        "quantileValues": (6, "ValueAtQuantile"),
    },
    "ValueAtQuantile": {"quantile": (1, _double), "value": (2, _double)},
    "Exemplar": {
        "filteredAttributes": (7, "KeyValue"),
        "timeUnixNano": (2, _fixed64),
        "asDouble": (3, _double),
        "asInt": (6, _sfixed64),
        "spanId": (4, _hex),
        "traceId": (5, _hex),
    },
}


def to_protobuf(signal: str, body: bytes) -> bytes:
    """An OTLP/JSON request as protobuf.

    Raises Malformed for what is none.
    """
    try:
        return message(signal, json.loads(body))
    except Malformed:
        raise
    except (ValueError, TypeError, OverflowError, struct.error, RecursionError) as error:
        raise Malformed(f"JSON: {error}") from None


def message(kind: str, value: Any, depth: int = 0) -> bytes:
    """One message's fields.

    Raises Malformed where it is no JSON object or nested too deeply.
    """
    if not isinstance(value, Mapping):
        raise Malformed(f"{kind} is expected to be an object")
    if depth > _DEEPEST:
        raise Malformed("nested too deeply")
    fields = MESSAGES[kind]
    parts = []
    for name, content in value.items():
        field = fields.get(name)
        if field is None or content is None:
            continue
        every = content if isinstance(content, list) else (content,)
        parts += [_field(field, each, depth) for each in every]
    return b"".join(parts)


def _field(field: Field, value: Any, depth: int) -> bytes:
    number, how = field
    if isinstance(how, str):
        return sized(varint(number << 3 | 2), message(how, value, depth + 1))
    wire = _WIRE.get(how)
    if wire is None:
        return sized(varint(number << 3 | 2), how(value))
    return varint(number << 3 | wire) + how(value)
