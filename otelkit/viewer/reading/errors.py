"""Exceptions by what groups them: their fingerprint.

One exception is often told more than once: by the spans that it passed and by its log record. Within a trace, the same
type with the same text is one occurrence, and the fingerprint that a sender said is the one that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otelkit.viewer.filter_sql import columns_condition
from otelkit.viewer.reading.asking import Cursor, Question, ms

_OCCURRENCES = """
    SELECT coalesce(trace_id, encode(uuid()::VARCHAR)) AS occurred_in, any_value(trace_id) AS trace_id, type, message,
        max(time_ns) AS time_ns, arg_min(span_id, time_ns) AS span_id, arg_max(service, given) AS service,
        arg_max(release, given) AS release, arg_max(fingerprint, given) AS fingerprint, arg_max(stack, given) AS stack
    FROM viewer.errors WHERE time_ns >= ? AND time_ns <= ? AND {more} GROUP BY occurred_in, type, message
"""
_GROUPS = f"""
    SELECT fingerprint, arg_max(type, time_ns) AS type, arg_max(message, time_ns) AS message,
        arg_max(service, time_ns) AS service, count(*) AS count, min(time_ns) AS first_ns, max(time_ns) AS last_ns,
        arg_max(trace_id, time_ns) AS trace_id, arg_max(span_id, time_ns) AS span_id,
        arg_max(release, time_ns) AS release
    FROM ({_OCCURRENCES}) GROUP BY fingerprint HAVING {{having}} ORDER BY last_ns DESC LIMIT {{limit}}
"""
_COLUMNS = {"service": "service", "type": "type", "message": "message", "release": "release"}


def groups(cursor: Cursor, question: Question) -> dict[str, Any]:
    """A page of groups, the one that was seen last first."""
    more, values = columns_condition(question.filter, _COLUMNS, ("message", "type"), "errors")
    before_ns = int(question.before.partition("-")[0]) if question.before else question.to_ns
    rows = cursor.rows(
        _GROUPS.format(more=more, having="max(time_ns) < ?", limit=question.limit + 1),
        [question.from_ns, question.to_ns, *values, before_ns],
    )
    page = rows[: question.limit]
    more_rows = len(rows) > question.limit
    return {"groups": [_shown(row) for row in page], "next": str(page[-1]["last_ns"]) if more_rows else None}


def newest(cursor: Cursor, fingerprints: Sequence[str]) -> list[dict[str, Any]]:
    """Some groups as they stand."""
    rows = cursor.rows(
        _GROUPS.format(more=_SAME_OCCURRENCES, having="true", limit=len(fingerprints)),
        [0, 1 << 62, list(fingerprints), list(fingerprints)],
    )
    return [_shown(row) for row in rows]


# What was told of these occurrences under another fingerprint as well, which may be the one that counts.
_SAME_OCCURRENCES = """(fingerprint IN (SELECT unnest(?)) OR trace_id IN
    (SELECT trace_id FROM viewer.errors WHERE fingerprint IN (SELECT unnest(?))))"""


def group(cursor: Cursor, fingerprint: str, question: Question) -> dict[str, Any] | None:
    """One group with its newest occurrences, and how many there were a minute; None where there is none."""
    bounds = [question.from_ns, question.to_ns, [fingerprint], [fingerprint]]
    rows = cursor.rows(
        _GROUPS.format(more=_SAME_OCCURRENCES, having="fingerprint = ?", limit=1), [*bounds, fingerprint]
    )
    if not rows:
        return None
    occurrences = _OCCURRENCES.format(more=_SAME_OCCURRENCES)
    recent = cursor.rows(
        f"SELECT * FROM ({occurrences}) WHERE fingerprint = ? ORDER BY time_ns DESC LIMIT 50", [*bounds, fingerprint]
    )
    minutes = cursor.rows(
        f"SELECT time_ns // 60000000000 AS minute, count(*) AS count FROM ({occurrences}) WHERE fingerprint = ?"
        " GROUP BY minute ORDER BY minute DESC LIMIT 1440",
        [*bounds, fingerprint],
    )
    return {
        **_shown(rows[0]),
        "stack": next((row["stack"] for row in recent if row["stack"]), None),
        "recent": [
            {
                "time_ms": ms(row["time_ns"]),
                "trace_id": _hex(row["trace_id"]),
                "span_id": _hex(row["span_id"]),
                "message": row["message"],
            }
            for row in recent
        ],
        "per_minute": [[row["minute"] * 60_000, row["count"]] for row in reversed(minutes)],
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "fingerprint": row["fingerprint"],
        "type": row["type"],
        "message": row["message"],
        "service": row["service"],
        "count": row["count"],
        "first_ms": ms(row["first_ns"]),
        "last_ms": ms(row["last_ns"]),
        "trace_id": _hex(row["trace_id"]),
        "span_id": _hex(row["span_id"]),
        "release": row["release"],
    }


def _hex(value: bytes | None) -> str | None:
    return value.hex() if value else None
