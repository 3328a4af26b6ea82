"""Log records, newest first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from otelkit.delivery.telling import STATUS_EVENT
from otelkit.viewer.filter import Filter
from otelkit.viewer.filter_sql import condition
from otelkit.viewer.reading.asking import Cursor, Question, ms
from otelkit.viewer.reading.backwards import Listing, begin, search, together

COLUMNS = "id, time_ns, severity, severity_text, body, service, trace_id, span_id, event_name, scope, attributes"


def logs(cursor: Cursor, question: Question) -> dict[str, Any]:
    """A page of log records, and the cursor of the next one."""
    return together(_LISTING, found_logs(cursor, question))


def found_logs(cursor: Cursor, question: Question) -> Iterator[dict[str, Any]]:
    """The same page in parts, as it is found."""
    sql, values = condition(question.filter, "logs")
    sql += unless_asked(question.filter)
    first_ns, last_id = begin(question)
    if last_id.isdigit():
        sql += " AND (time_ns < ? OR id < ?)"
        values += [first_ns, int(last_id)]

    def look(floor_ns: int, to_ns: int) -> list[dict[str, Any]]:
        return cursor.rows(
            f"SELECT {COLUMNS} FROM viewer.logs WHERE time_ns >= ? AND time_ns <= ? AND {sql}"
            f" ORDER BY time_ns DESC, id DESC LIMIT {question.limit + 1}",
            [floor_ns, to_ns, *values],
        )

    yield from search(cursor, _LISTING, question, look)


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


_LISTING = Listing("logs", "logs", "time_ns", lambda row: str(row["id"]), shown)
