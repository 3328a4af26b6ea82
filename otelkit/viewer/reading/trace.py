"""One trace: its spans, what repeats in it, its critical path, and its logs."""

from __future__ import annotations

import json
from typing import Any

from otelkit.viewer.filter_sql import KINDS, STATUSES
from otelkit.viewer.reading.asking import Cursor, ms
from otelkit.viewer.reading.critical import critical_path
from otelkit.viewer.reading.logs import COLUMNS
from otelkit.viewer.reading.logs import shown as shown_log
from otelkit.viewer.rollups import N_PLUS_ONE

MOST_SPANS = 20_000
MOST_LOGS = 2_000
_FOLDED = 3
"""From how many runs of one statement under one parent on they are told as repeated."""
_MEASURED_WAIT = "celery.task.queue.duration"
_SPANS = f"""
    SELECT span_id, parent_id, name, service, kind, start_ns, duration_ns, status, status_message, scope, resource,
        attributes, events, links, statement, repeated
    FROM viewer.spans WHERE start_ns BETWEEN ? AND ? AND trace_id = ? ORDER BY start_ns, span_id LIMIT {MOST_SPANS + 1}
"""
_LOGS = f"""
    SELECT {COLUMNS} FROM viewer.logs WHERE time_ns BETWEEN ? AND ? AND trace_id = ?
    ORDER BY time_ns, id LIMIT {MOST_LOGS + 1}
"""
_AROUND_NS = 3_600_000_000_000  # a trace's log may have another clock


def trace(cursor: Cursor, trace_id: bytes) -> dict[str, Any] | None:
    """A trace; None where there is none of this id. A span that was sent twice is shown once."""
    start_ns, end_ns = cursor.one(
        "SELECT min(start_ns), max(end_ns) FROM viewer.trace_parts WHERE trace_id = ?", [trace_id]
    )
    first_ns, last_ns = (start_ns - _AROUND_NS, end_ns + _AROUND_NS) if start_ns is not None else (0, 1 << 62)
    logs = cursor.rows(_LOGS, [first_ns, last_ns, trace_id])
    if start_ns is None and not logs:
        return None
    rows = cursor.rows(_SPANS, [start_ns, end_ns, trace_id]) if start_ns is not None else []
    cut = len(rows) > MOST_SPANS or len(logs) > MOST_LOGS
    spans = list({row["span_id"]: row for row in rows[:MOST_SPANS]}.values())
    resources = list(dict.fromkeys(row["resource"] for row in spans))
    critical = critical_path(spans)
    by_id = {row["span_id"]: row for row in spans}
    if start_ns is None:
        start_ns, end_ns = logs[0]["time_ns"], logs[-1]["time_ns"]
    return {
        "trace_id": trace_id.hex(),
        "start_ms": ms(start_ns),
        "duration_ms": ms(end_ns - start_ns),
        "spans": [
            {
                "span_id": row["span_id"].hex(),
                "parent_id": row["parent_id"].hex() if row["parent_id"] else None,
                "name": row["name"],
                "service": row["service"],
                "kind": KINDS[row["kind"]] if row["kind"] else "internal",
                "start_ms": ms(row["start_ns"]),
                "duration_ms": ms(row["duration_ns"]),
                "status": STATUSES[row["status"]],
                "status_message": row["status_message"],
                "scope": row["scope"],
                "attributes": json.loads(row["attributes"]),
                "resource": resources.index(row["resource"]),
                "events": [_event(each) for each in json.loads(row["events"] or "[]")],
                "links": json.loads(row["links"] or "[]"),
                "critical": row["span_id"] in critical,
                "queue_wait_ms": _queue_wait_ms(row, by_id),
            }
            for row in spans
        ],
        "resources": _resources(cursor, resources),
        "repeated": _repeated(spans),
        "logs": [shown_log(row) for row in logs[:MOST_LOGS]],
        "cut": cut,
    }


def _event(event: dict[str, Any]) -> dict[str, Any]:
    return {"name": event["name"], "time_ms": ms(event["time_ns"]), "attributes": event["attributes"]}


def _queue_wait_ms(row: dict[str, Any], by_id: dict[bytes, dict[str, Any]]) -> float | None:
    """How long a message lay in its queue: from the end of what sent it to the start of what took it.

    A task's own measure comes first: of one that is to start later it counts from when it is due.
    """
    if row["kind"] != 5:
        return None
    measured_s = json.loads(row["attributes"]).get(_MEASURED_WAIT)
    if isinstance(measured_s, (int, float)):
        return round(max(0.0, measured_s) * 1000, 3)
    sender = by_id.get(row["parent_id"])
    if sender is None:
        linked = (by_id.get(bytes.fromhex(each["span_id"])) for each in json.loads(row["links"] or "[]"))
        sender = next((each for each in linked if each is not None), None)
    if sender is None or sender["kind"] != 4:
        return None
    return ms(max(0, row["start_ns"] - sender["start_ns"] - sender["duration_ns"]))


def _resources(cursor: Cursor, ids: list[int]) -> list[dict[str, Any]]:
    rows = cursor.rows("SELECT id, any_value(attributes) AS attributes FROM viewer.resources"
                       " WHERE id IN (SELECT unnest(?)) GROUP BY id", [ids]) if ids else []  # fmt: skip
    found = {row["id"]: json.loads(row["attributes"]) for row in rows}
    return [found.get(each, {}) for each in ids]


def _repeated(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[bytes | None, str], list[dict[str, Any]]] = {}
    marked = {row["span_id"]: row["repeated"] for row in spans if row["repeated"]}
    for row in spans:
        if row["statement"]:
            groups.setdefault((row["parent_id"], row["statement"]), []).append(row)
    return [
        {
            "parent_id": parent.hex() if parent else None,
            "name": rows[0]["name"],
            "statement": statement,
            "count": len(rows),
            "duration_ms": ms(sum(row["duration_ns"] for row in rows)),
            "span_ids": [row["span_id"].hex() for row in rows],
            "n_plus_one": len(rows) >= min(N_PLUS_ONE, marked.get(parent, N_PLUS_ONE)),
        }
        for (parent, statement), rows in groups.items()
        if len(rows) >= _FOLDED
    ]
