"""Makes rows of an OTLP trace request, by hand: a tenth of what protobuf's objects cost for spans with many attributes.

The loops look at single bytes: a tag of OTLP's known fields is one byte, and so is nearly every length.
"""

from __future__ import annotations

from typing import Any

from otelkit.delivery.wire import read_fields
from otelkit.viewer.envelope import FIXED64, MOST_NS, Batch, Resource, reading, resources, skip, varint
from otelkit.viewer.exceptions import occurrence
from otelkit.viewer.values import Attributes, Malformed, Promoted, json_of, key_value, object_of

_ROUTE, _HTTP_STATUS, _OLD_HTTP_STATUS = "http.route", "http.response.status_code", "http.status_code"
_DB, _OLD_DB = "db.system.name", "db.system"
_STATEMENT, _OLD_STATEMENT, _OPERATION = "db.query.text", "db.statement", "db.query.summary"
_REPEATED = "otelkit.db.n_plus_one.count"
_PEERS = (
    "server.address",
    "peer.service",
    "net.peer.name",
    "messaging.destination.name",
    "messaging.system",
    "rpc.system",
)
PROMOTED = frozenset(
    (_ROUTE, _HTTP_STATUS, _OLD_HTTP_STATUS, _DB, _OLD_DB, _STATEMENT, _OLD_STATEMENT, _OPERATION, _REPEATED, *_PEERS)
)
_LONGEST_STATEMENT = 4_000  # characters, of the roll-ups' key; the attribute stays whole
_NOTHING: dict[str, Any] = {}


def decode_spans(body: bytes, attributes: Attributes, batch: Batch) -> None:
    """Adds a request's spans, resources and recorded exceptions to a batch.

    Raises Malformed for bytes that are no ExportTraceServiceRequest.
    """
    with reading():
        for resource, scope, encoded in resources(body, batch):
            _span(body, *encoded, resource, scope, attributes, batch)


def _span(
    body: bytes, position: int, end: int, resource: Resource, scope: str, attributes: Attributes, batch: Batch
) -> None:
    get, learn = attributes.kept.get, attributes.learn
    trace_id = span_id = b""
    parent_id = status_message = events = links = None
    name = ""
    kind = start = until = status = 0
    pairs: list[str] = []
    add = pairs.append
    promoted = _NOTHING
    while position < end:
        tag = body[position]
        if tag == 0x4A:  # attributes, which stand one after the other
            while position < end and body[position] == 0x4A:
                size = body[position + 1]
                if size < 128:
                    position += 2
                else:
                    size, position = varint(body, position + 1)
                encoded = body[position : position + size]
                position += size
                pair = get(encoded)
                if pair is None:
                    pair = learn(encoded)
                if type(pair) is Promoted:
                    if promoted is _NOTHING:
                        promoted = {}
                    promoted[pair.key] = pair.value
                add(pair)
        elif tag == 0x39:
            (start,) = FIXED64(body, position + 1)
            position += 9
        elif tag == 0x41:
            (until,) = FIXED64(body, position + 1)
            position += 9
        elif tag == 0x30:
            kind, position = varint(body, position + 1)
        elif tag in _SIZED:
            size, position = varint(body, position + 1)
            content = body[position : position + size]
            position += size
            if tag == 0x0A:
                trace_id = content
            elif tag == 0x12:
                span_id = content
            elif tag == 0x22:
                parent_id = content or None
            elif tag == 0x2A:
                name = content.decode("utf-8", "replace")
            elif tag == 0x5A:
                events = [] if events is None else events
                events.append(_event(content))
            elif tag == 0x6A:
                links = [] if links is None else links
                links.append(_link(content))
            else:
                status, status_message = _status(content)
        elif tag == 0x85 and body[position + 1] == 1:  # flags
            position += 6
        else:
            position = skip(body, position)
    if position != end:
        raise Malformed("truncated")
    if len(trace_id) != 16 or len(span_id) != 8 or trace_id == bytes(16) or span_id == bytes(8):
        batch.reject("a span without valid ids")
        return
    if parent_id is not None and (len(parent_id) != 8 or parent_id == bytes(8)):
        parent_id = None
    start = min(start, MOST_NS)
    duration = min(max(until - start, 0), MOST_NS - start)
    found = promoted.get
    http_status = found(_HTTP_STATUS) or found(_OLD_HTTP_STATUS)
    db_system = found(_DB) or found(_OLD_DB)
    statement = (found(_STATEMENT) or found(_OLD_STATEMENT) or found(_OPERATION) or name) if db_system else None
    repeated = found(_REPEATED)
    batch.spans.append((
        trace_id, span_id, parent_id, name, resource.service, kind if kind < 6 else 0, start, duration,
        status if status < 3 else 0, status_message, scope, resource.id, object_of(pairs),
        json_of(events) if events else None, json_of(links) if links else None,
        _text(found(_ROUTE)), http_status if type(http_status) is int and 0 < http_status < 1000 else None,
        _text(db_system), _text(statement), repeated if type(repeated) is int and 0 < repeated <= MOST_NS else None,
    ))  # fmt: skip
    if kind > 1:
        batch.edges.append((span_id, parent_id, kind, resource.service, start, duration, status == 2, promoted))
    if events:
        for event in events:
            if event["name"] == "exception":
                batch.errors.append(
                    occurrence(event["attributes"], event["time_ns"] or start, trace_id, span_id, resource)
                )


_SIZED = frozenset((0x0A, 0x12, 0x22, 0x2A, 0x5A, 0x6A, 0x7A))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:_LONGEST_STATEMENT]


def _event(content: bytes) -> dict[str, Any]:
    event: dict[str, Any] = {"name": "", "time_ns": 0, "attributes": {}}
    for number, value in _fields(content):
        if number == 1 and len(value) == 8:
            event["time_ns"] = min(int.from_bytes(value, "little"), MOST_NS)
        elif number == 2:
            event["name"] = value.decode("utf-8", "replace")
        elif number == 3:
            key, found = key_value(value)
            event["attributes"][key] = found
    return event


def _link(content: bytes) -> dict[str, Any]:
    link: dict[str, Any] = {"trace_id": "", "span_id": "", "attributes": {}}
    for number, value in _fields(content):
        if number == 1:
            link["trace_id"] = value.hex()
        elif number == 2:
            link["span_id"] = value.hex()
        elif number == 4:
            key, found = key_value(value)
            link["attributes"][key] = found
    return link


def _status(content: bytes) -> tuple[int, str | None]:
    code, message = 0, None
    position = 0
    while position < len(content):
        if content[position] == 0x18:
            code, position = varint(content, position + 1)
        elif content[position] == 0x12:
            size, position = varint(content, position + 1)
            message = content[position : position + size].decode("utf-8", "replace") or None
            position += size
        else:
            position = skip(content, position)
    return code, message


def _fields(content: bytes) -> list[tuple[int, bytes]]:
    return [(number, value) for number, value in read_fields(content) if isinstance(value, bytes)]
