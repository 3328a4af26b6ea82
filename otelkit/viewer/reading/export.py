"""Spans, logs and metrics as OTLP/JSON requests, one a line: what `otelkit import` and any OTLP receiver take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from otelkit.viewer.reading.asking import Question, reading_connection
from otelkit.viewer.reading.export_metrics import POINTS, metrics
from otelkit.viewer.store import Store

_BATCH = 500
_SPANS = """
    SELECT r.attributes AS resource, s.scope, s.trace_id, s.span_id, s.parent_id, s.name, s.kind, s.start_ns,
        s.duration_ns, s.status, s.status_message, s.attributes, s.events, s.links
    FROM viewer.spans s LEFT JOIN (SELECT id, any_value(attributes) AS attributes FROM viewer.resources GROUP BY id) r
    ON r.id = s.resource WHERE {where} ORDER BY s.resource, s.scope, s.start_ns
"""
_LOGS = """
    SELECT r.attributes AS resource, l.scope, l.time_ns, l.severity, l.severity_text, l.body, l.trace_id, l.span_id,
        l.event_name, l.attributes
    FROM viewer.logs l LEFT JOIN (SELECT id, any_value(attributes) AS attributes FROM viewer.resources GROUP BY id) r
    ON r.id = l.resource WHERE {where} ORDER BY l.resource, l.scope, l.time_ns
"""


def export(store: Store, question: Question, trace_id: bytes | None) -> Iterator[str]:
    """The requests of a trace, which has no metrics, or of a time; each ends in a newline."""
    spans, logs = ("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords")
    yield from _requests(store, question, trace_id, _SPANS, "start_ns", spans, _spans)
    yield from _requests(store, question, trace_id, _LOGS, "time_ns", logs, _logs)
    if trace_id is None:
        points = ("resourceMetrics", "scopeMetrics", "metrics")
        yield from _requests(store, question, None, POINTS, "time_ns", points, lambda rows: metrics(rows, _pairs))


def _requests(
    store: Store,
    question: Question,
    trace_id: bytes | None,
    statement: str,
    time: str,
    names: tuple[str, str, str],
    make: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
) -> Iterator[str]:
    key, scopes, records = names
    where, values = "trace_id = ?", [trace_id]
    if trace_id is None:
        where, values = f"{time} >= ? AND {time} <= ?", [question.from_ns, question.to_ns]  # type: ignore[list-item]
    with reading_connection(store) as connection:
        found = connection.execute(statement.format(where=where), values)
        columns = [column[0] for column in found.description or ()]
        while rows := [dict(zip(columns, row, strict=True)) for row in found.fetchmany(_BATCH)]:
            grouped = [
                {
                    "resource": {"attributes": _attributes(resource or "{}")},
                    scopes: [{"scope": {"name": scope or ""}, records: make(list(group))}],
                }
                for (resource, scope), group in groupby(rows, lambda row: (row["resource"], row["scope"]))
            ]
            yield json.dumps({key: grouped}, ensure_ascii=False, separators=(",", ":")) + "\n"


def _spans(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(map(_span, rows))


def _logs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(map(_log, rows))


def _span(row: dict[str, Any]) -> dict[str, Any]:
    found = {
        "traceId": row["trace_id"].hex(),
        "spanId": row["span_id"].hex(),
        "name": row["name"],
        "kind": row["kind"],
        "startTimeUnixNano": str(row["start_ns"]),
        "endTimeUnixNano": str(row["start_ns"] + row["duration_ns"]),
        "attributes": _attributes(row["attributes"]),
        "status": {"code": row["status"], **({"message": row["status_message"]} if row["status_message"] else {})},
    }
    if row["parent_id"]:
        found["parentSpanId"] = row["parent_id"].hex()
    if row["events"]:
        found["events"] = [
            {"timeUnixNano": str(each["time_ns"]), "name": each["name"], "attributes": _pairs(each["attributes"])}
            for each in json.loads(row["events"])
        ]
    if row["links"]:
        found["links"] = [
            {"traceId": each["trace_id"], "spanId": each["span_id"], "attributes": _pairs(each["attributes"])}
            for each in json.loads(row["links"])
        ]
    return found


def _log(row: dict[str, Any]) -> dict[str, Any]:
    found = {
        "timeUnixNano": str(row["time_ns"]),
        "severityNumber": row["severity"],
        "severityText": row["severity_text"],
        "body": {"stringValue": row["body"]},
        "attributes": _attributes(row["attributes"]),
    }
    for key, value in (("traceId", row["trace_id"]), ("spanId", row["span_id"])):
        if value:
            found[key] = value.hex()
    if row["event_name"]:
        found["eventName"] = row["event_name"]
    return found


def _attributes(encoded: str) -> list[dict[str, Any]]:
    return _pairs(json.loads(encoded))


def _pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _pairs(value)}}
    return {"stringValue": value}
