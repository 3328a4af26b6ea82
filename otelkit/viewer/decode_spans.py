"""Makes rows of an OTLP trace request: a tenth of what protobuf's objects cost for spans with many attributes."""

from __future__ import annotations

from typing import Any

from otelkit.delivery.wire import read_fields
from otelkit.viewer.envelope import MOST_NS, Batch, Resource, reading, scopes, skip, varint
from otelkit.viewer.exceptions import occurrence
from otelkit.viewer.span_facts import LONGEST_STATEMENT, KnownFacts
from otelkit.viewer.span_messages import NO_MESSAGE, span_messages
from otelkit.viewer.values import Attributes, Promoted, json_of, key_value, object_of

_MOST_ATTRIBUTES = 1 << 20  # of a span: 16 million empty ones come in a request, and take a gigabyte as JSON
_NO_TRACE_ID, _NO_SPAN_ID = bytes(16), bytes(8)
_CLIENT, _ERROR = 3, 2
_NO_STATUS: tuple[int, str | None] = (0, None)
_FACTS = KnownFacts()


def decode_spans(body: bytes, attributes: Attributes, batch: Batch) -> None:
    """Adds a request's spans, resources and recorded exceptions to a batch.

    Raises Malformed for bytes that are no ExportTraceServiceRequest.
    """
    with reading(NO_MESSAGE):
        for resource, scope, (start, end) in scopes(body):
            for spans in span_messages(body, start, end):
                if spans:
                    batch.resources[resource.id] = resource
                    _add(spans, resource, scope, attributes, batch)
                    batch.settle_if_large()


def _add(spans: Any, resource: Resource, scope: str, attributes: Attributes, batch: Batch) -> None:
    pair_of = attributes.__getitem__
    service, resource_id = resource.service, resource.id
    rows, add_edge, note = batch.spans, batch.edges.append, batch.pairs.update
    add = rows.append
    for span in spans:
        trace_id, span_id = span.trace_id, span.span_id
        if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE_ID or span_id == _NO_SPAN_ID:
            batch.reject("a span without valid ids")
            continue
        encoded = span.attributes
        if len(encoded) > _MOST_ATTRIBUTES:
            batch.reject("a span with more than a million attributes")
            continue
        parent_id = span.parent_id
        if len(parent_id) != 8 or parent_id == _NO_SPAN_ID:
            parent_id = None
        name = span.name.decode("utf-8", "replace")
        kind, start, end = span.kind, span.start_ns, span.end_ns
        if start > MOST_NS or end > MOST_NS:
            start, end = min(start, MOST_NS), min(end, MOST_NS)
        duration = end - start if end > start else 0
        status, status_message = _status(content) if (content := span.status) else _NO_STATUS
        events = [_event(each) for each in span.events]
        links = [_link(each) for each in span.links]
        pairs = list(map(pair_of, encoded))
        facts = _FACTS[tuple([each for each in pairs if type(each) is Promoted])]
        statement = facts.statement
        if statement is None and facts.db_system is not None:
            statement = name[:LONGEST_STATEMENT]
        add((
            trace_id, span_id, parent_id, name, service, kind if kind < 6 else 0, start, duration,
            status if status < 3 else 0, status_message, scope, resource_id, object_of(pairs),
            json_of(events) if events else None, json_of(links) if links else None,
            facts.route, facts.http_status, facts.db_system, statement, facts.repeated, 0,
        ))  # fmt: skip
        note(pairs)
        if len(rows) >= batch.next_set:
            batch.make_set()
        if kind > 1 and (kind != _CLIENT or facts.db_system is None):  # calls of databases are counted in SQL
            add_edge((span_id, parent_id, kind, service, start, duration, status == _ERROR, facts))
        for event in events:
            if event["name"] == "exception":
                batch.errors.append(
                    occurrence(event["attributes"], event["time_ns"] or start, trace_id, span_id, resource)
                )


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
