"""Log records, newest first."""

from __future__ import annotations

import json
from typing import Any

from otelkit.delivery.telling import STATUS_EVENT
from otelkit.viewer.filter import EVERYTHING, And, Filter
from otelkit.viewer.filter_sql import condition
from otelkit.viewer.reading.asking import Cursor, Question, ms

COLUMNS = "id, time_ns, severity, severity_text, body, service, trace_id, span_id, event_name, scope, attributes"


def logs(cursor: Cursor, question: Question, also: Filter = EVERYTHING) -> dict[str, Any]:
    """A page of log records that match both filters, and the cursor of the next one."""
    found = And((question.filter, also))
    sql, values = condition(found, "logs")
    sql += unless_asked(found)
    if question.before:
        time_ns, _, number = question.before.partition("-")
        sql += " AND (time_ns < ? OR time_ns = ? AND id < ?)"
        values += [int(time_ns), int(time_ns), int(number) if number.isdigit() else 0]
    rows = cursor.rows(
        f"SELECT {COLUMNS} FROM viewer.logs WHERE time_ns >= ? AND time_ns <= ? AND {sql}"
        f" ORDER BY time_ns DESC, id DESC LIMIT {question.limit + 1}",
        [question.from_ns, question.to_ns, *values],
    )
    more = len(rows) > question.limit
    page = rows[: question.limit]
    last = page[-1] if page else None
    return {
        "logs": [shown(row) for row in page],
        "next": f"{last['time_ns']}-{last['id']}" if last and more else None,
    }


def unless_asked(found: Filter) -> str:
    """A condition that leaves out what processes tell of their telemetry (health.py), where the filter does not name
    it: it is no log record of an application's.
    """
    return "" if STATUS_EVENT in str(found) else f" AND event_name IS DISTINCT FROM '{STATUS_EVENT}'"


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A record as the API has it."""
    return {
        "id": str(row["id"]),
        "time_ms": ms(row["time_ns"]),
        "severity": row["severity_text"],
        "severity_number": row["severity"],
        "body": row["body"],
        "service": row["service"],
        "trace_id": row["trace_id"].hex() if row["trace_id"] else None,
        "span_id": row["span_id"].hex() if row["span_id"] else None,
        "event_name": row["event_name"],
        "scope": row["scope"],
        "attributes": json.loads(row["attributes"]),
    }
