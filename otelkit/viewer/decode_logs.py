"""Makes rows of an OTLP logs request."""

from __future__ import annotations

import time

from otelkit.viewer.envelope import FIXED64, MOST_NS, Batch, Resource, reading, resources, skip, varint
from otelkit.viewer.exceptions import occurrence
from otelkit.viewer.values import Attributes, Malformed, any_value, json_of, key_value, object_of

_SEVERITIES = ("", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


def decode_logs(body: bytes, attributes: Attributes, batch: Batch) -> None:
    """Adds a request's log records, resources and recorded exceptions to a batch.

    Raises Malformed for bytes that are no ExportLogsServiceRequest.
    """
    with reading():
        for resource, scope, place in resources(body, batch):
            _log(body, *place, resource, scope, attributes, batch)


def severity_name(number: int) -> str:
    """OTLP's name of a severity number's range."""
    return _SEVERITIES[(number + 3) // 4] if 0 < number <= 24 else ""


def _log(
    body: bytes, position: int, end: int, resource: Resource, scope: str, attributes: Attributes, batch: Batch
) -> None:
    at = observed = severity = 0
    severity_text = event_name = text = ""
    trace_id = span_id = None
    pairs: list[str] = []
    exception: list[bytes] = []
    while position < end:
        tag = body[position]
        if tag == 0x09:
            (at,) = FIXED64(body, position + 1)
            position += 9
        elif tag == 0x59:
            (observed,) = FIXED64(body, position + 1)
            position += 9
        elif tag == 0x10:
            severity, position = varint(body, position + 1)
        elif tag in (0x32, 0x1A, 0x2A, 0x4A, 0x52, 0x62):
            size, position = varint(body, position + 1)
            content = body[position : position + size]
            position += size
            if tag == 0x32:
                pair = attributes[content]
                pairs.append(pair)
                if pair.startswith(('"exception.', '"otelkit.error.')):
                    exception.append(content)
            elif tag == 0x1A:
                severity_text = content.decode("utf-8", "replace")
            elif tag == 0x2A:
                value = any_value(content)
                text = value if isinstance(value, str) else "" if value is None else json_of(value)
            elif tag == 0x4A:
                trace_id = content if len(content) == 16 and content != bytes(16) else None
            elif tag == 0x52:
                span_id = content if len(content) == 8 and content != bytes(8) else None
            else:
                event_name = content.decode("utf-8", "replace")
        else:
            position = skip(body, position)
    if position != end:
        raise Malformed("truncated")
    severity = severity if severity <= 24 else 0
    at = min(at or observed or time.time_ns(), MOST_NS)
    batch.logs.append((
        None, at, severity, severity_name(severity) or severity_text.upper(), text, resource.service, trace_id,
        span_id, event_name or None, scope, resource.id, object_of(pairs),
    ))  # fmt: skip
    if exception and any(b"exception.type" in each for each in exception):
        described = dict(map(key_value, exception))
        batch.errors.append(occurrence(described, at, trace_id, span_id, resource))
