"""Statements: the slow ones, and those that run over and over under one span (N+1)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from otelkit.viewer.filter_sql import columns_condition
from otelkit.viewer.reading.asking import Cursor, Question, ms
from otelkit.viewer.reading.buckets import percentile_ms
from otelkit.viewer.rollups import MINUTE_NS, N_PLUS_ONE

_SLOW = """
    WITH found AS (
        SELECT * FROM viewer.statements WHERE minute >= ? AND minute <= ? AND {more}
    ), slowest AS (
        SELECT statement, service, db_system FROM found GROUP BY ALL ORDER BY max(longest_ns) DESC LIMIT {limit}
    )
    SELECT statement, service, db_system, bucket, sum(count)::BIGINT AS count, max(longest_ns) AS longest_ns,
        arg_max(trace_id, longest_ns) AS trace_id, arg_max(span_id, longest_ns) AS span_id
    FROM found SEMI JOIN slowest USING (statement, service, db_system) GROUP BY 1, 2, 3, 4
"""
_REPEATED = f"""
    WITH runs AS (
        SELECT trace_id, parent_id, statement, service, bool_or(marked) AS marked, max(last_ns) AS last_ns,
            greatest(coalesce(max(count) FILTER (marked), 0), coalesce(sum(count) FILTER (NOT marked), 0))::BIGINT
            AS count
        FROM viewer.repeats WHERE last_ns >= ? AND last_ns <= ? AND {{more}} GROUP BY ALL
    )
    SELECT statement, service, count(*) AS times, max(count) AS worst, arg_max(trace_id, count) AS trace_id,
        arg_max(parent_id, count) AS parent_id, max(last_ns) AS last_ns
    FROM runs WHERE marked OR count >= {N_PLUS_ONE} GROUP BY ALL ORDER BY times * worst DESC LIMIT {{limit}}
"""
_PARENT = """
    SELECT name, json_extract_string(attributes, '$."otelkit.db.n_plus_one.caller"') AS caller FROM viewer.spans
    WHERE trace_id = ? AND span_id = ? AND start_ns BETWEEN ? AND ?
"""
_AROUND_NS = 600_000_000_000
_COLUMNS = {"service": "service", "statement": "statement", "db.system.name": "db_system"}


def queries(cursor: Cursor, question: Question) -> dict[str, Any]:
    """Both lists: the slowest by their 95th percentile, the repeated by how many runs they cost."""
    return {"slow": _slow(cursor, question), "n_plus_one": _repeated(cursor, question)}


def _slow(cursor: Cursor, question: Question) -> list[dict[str, Any]]:
    more, values = columns_condition(question.filter, _COLUMNS, ("statement",), "statements")
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in cursor.rows(
        _SLOW.format(more=more, limit=question.limit),
        [question.from_ns // MINUTE_NS, question.to_ns // MINUTE_NS, *values],
    ):
        groups.setdefault((row["statement"], row["service"], row["db_system"]), []).append(row)
    found = []
    for (statement, service, system), rows in groups.items():
        counts: Counter[int] = Counter()
        for row in rows:
            counts[row["bucket"]] += row["count"]
        longest = max(rows, key=lambda row: row["longest_ns"])
        found.append(
            {
                "statement": statement,
                "service": service,
                "system": system,
                "count": sum(counts.values()),
                "p95_ms": percentile_ms(counts, 0.95),
                "max_ms": ms(longest["longest_ns"]),
                "trace_id": longest["trace_id"].hex(),
                "span_id": longest["span_id"].hex(),
            }
        )
    return sorted(found, key=lambda each: -each["p95_ms"])


def _repeated(cursor: Cursor, question: Question) -> list[dict[str, Any]]:
    columns = {key: column for key, column in _COLUMNS.items() if column != "db_system"}
    more, values = columns_condition(question.filter, columns, ("statement",), "statements")
    rows = cursor.rows(_REPEATED.format(more=more, limit=question.limit), [question.from_ns, question.to_ns, *values])
    found = []
    for row in rows:
        around = (row["last_ns"] - _AROUND_NS, row["last_ns"] + _AROUND_NS)
        name, caller = cursor.one(_PARENT, [row["trace_id"], row["parent_id"], *around]) or (None, None)
        found.append(
            {
                "statement": row["statement"],
                "service": row["service"],
                "parent": name,
                "times": row["times"],
                "worst_count": row["worst"],
                "caller": caller,
                "trace_id": row["trace_id"].hex(),
                "span_id": row["parent_id"].hex(),
                "last_ms": ms(row["last_ns"]),
            }
        )
    return found
