"""The list of traces, newest first.

A trace is listed by its start. Its spans come in parts, in any order: each written batch left one part of it, and the
parts are put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from otelkit.viewer.filter import EVERYTHING, Filter
from otelkit.viewer.filter_sql import STATUSES, condition, of_trace
from otelkit.viewer.reading.asking import Cursor, Question, ms
from otelkit.viewer.reading.candidates import candidates
from otelkit.viewer.rollups import N_PLUS_ONE

_FIRST_PARTS = 2_000
"""Of traces: how far back the first look goes; each further one goes back eightfold."""
_WIDER = 8
_OLDER_NS = 600_000_000_000
_FEW_BLOCKS = 1_000
"""Looked through at once, instead of the newest first and all from the start where a page is not full."""

_SUMMARIES = """
    SELECT trace_id, min(start_ns) AS start_ns, max(end_ns) AS end_ns, sum(spans)::BIGINT AS spans,
        sum(errors)::BIGINT AS errors, list_sort(list_distinct(flatten(list(services)))) AS services,
        max(repeated) AS repeated, arg_min(head, head_rank) AS head
    FROM viewer.trace_parts WHERE start_ns >= ? AND trace_id IN (SELECT unnest(?)) GROUP BY trace_id
"""
_REPEATED = f"""
    SELECT trace_id FROM viewer.repeats WHERE last_ns >= ? AND trace_id IN (SELECT unnest(?))
    GROUP BY trace_id, parent_id, statement HAVING sum(count) >= {N_PLUS_ONE}
"""


class _OfSpans(NamedTuple):
    """A condition on spans, of which a trace must have one that matches, or none; `blocks`: where they can be."""

    wanted: bool
    sql: str
    values: list[Any]
    blocks: list[int] | None


def traces(cursor: Cursor, question: Question) -> dict[str, Any]:
    """A page of traces, and the cursor of the next one."""
    last_ns, _, last_id = (question.before or "").partition("-")
    before = (min(int(last_ns), question.to_ns), last_id) if last_ns else (question.to_ns, "")
    found: list[dict[str, Any]] = []
    conditions = _conditions(cursor, question.filter)
    few = all(each.blocks is not None and len(each.blocks) <= _FEW_BLOCKS for each in conditions)
    newest_ns, oldest_ns = cursor.one(
        "SELECT max(start_ns), min(start_ns) FROM viewer.trace_parts WHERE start_ns <= ? AND start_ns >= ?",
        (before[0], question.from_ns),
    )
    first_ns = oldest_ns
    if not (conditions and few):
        (first_ns,) = cursor.one(
            "SELECT min(start_ns) FROM (SELECT start_ns FROM viewer.trace_parts WHERE start_ns <= ? AND start_ns >= ?"
            f" ORDER BY start_ns DESC LIMIT {_FIRST_PARTS})",
            (before[0], question.from_ns),
        )
    window_ns = newest_ns - first_ns + 1 if newest_ns is not None else 0
    while newest_ns is not None and len(found) <= question.limit:
        floor_ns = max(newest_ns - window_ns, oldest_ns)
        found = _within(cursor, question, conditions, floor_ns, before)
        if floor_ns == oldest_ns:
            break
        window_ns *= _WIDER
    more = len(found) > question.limit
    page = found[: question.limit]
    return {
        "traces": [_shown(each) for each in page],
        "next": f"{page[-1]['start_ns']}-{page[-1]['trace_id'].hex()}" if more else None,
    }


def matching(cursor: Cursor, ids: Sequence[bytes], found: Filter, floor_ns: int) -> list[dict[str, Any]]:
    """Those of some traces that a filter lists for spans that started since, as the list shows them.

    What of them is older than ten minutes before is left out: the whole of the table would have to be looked at.
    """
    if found != EVERYTHING:
        sql, values = _matched(_conditions(None, found), floor_ns)
        rows = cursor.rows(
            "SELECT DISTINCT trace_id FROM viewer.trace_parts"
            f" WHERE start_ns >= ? AND trace_id IN (SELECT unnest(?)) AND {sql}",
            [floor_ns, list(ids), *values],
        )
        ids = [row["trace_id"] for row in rows]
    return [_shown(each) for each in _summaries(cursor, ids, floor_ns - _OLDER_NS)] if ids else []


def _within(
    cursor: Cursor, question: Question, conditions: Sequence[_OfSpans], floor_ns: int, before: tuple[int, str]
) -> list[dict[str, Any]]:
    """Up to one more trace than a page has, of those that started in a span of time; newest first."""
    sql, values = _matched(conditions, floor_ns)
    window = 4 * question.limit + 4
    while True:
        parts = cursor.rows(
            "SELECT trace_id, start_ns FROM viewer.trace_parts"
            f" WHERE start_ns <= ? AND start_ns >= ? AND {sql} ORDER BY start_ns DESC LIMIT {window}",
            [before[0], floor_ns, *values],
        )
        whole = len(parts) < window
        least_ns = floor_ns if whole else parts[-1]["start_ns"]
        found = _summaries(cursor, list({part["trace_id"]: None for part in parts}))
        # A trace whose first part is older than the oldest part that was looked at comes later in the order.
        # What starts together with the oldest part may not have been looked at as a whole.
        least_ns += not whole
        kept = [each for each in found if each["start_ns"] >= least_ns]
        kept = [each for each in kept if (-each["start_ns"], each["trace_id"].hex()) > (-before[0], before[1])]
        if whole or len(kept) > question.limit:
            return sorted(kept, key=lambda each: (-each["start_ns"], each["trace_id"]))[: question.limit + 1]
        window *= 4


def _conditions(cursor: Cursor | None, found: Filter) -> list[_OfSpans]:
    """What one span of a trace must match, and what none may; with a cursor also where such spans can be."""
    if found == EVERYTHING:
        return []
    wanted, unwanted = of_trace(found)
    parts = [(wanted, True)] if wanted != EVERYTHING else []
    parts += [(each, False) for each in unwanted]
    return [
        _OfSpans(is_wanted, *condition(part, "spans"), candidates(cursor, part) if cursor is not None else None)
        for part, is_wanted in parts
    ]


def _matched(conditions: Sequence[_OfSpans], floor_ns: int) -> tuple[str, list[Any]]:
    """A condition on the parts of traces: that the spans of their trace match."""
    parts, values = ["true"], []
    for each in conditions:
        among = "" if each.blocks is None else "block IN (SELECT unnest(?)) AND "
        spans = f"SELECT trace_id FROM viewer.spans WHERE start_ns >= ? AND {among}{each.sql}"
        parts.append(f"trace_id {'' if each.wanted else 'NOT '}IN ({spans})")
        values += [floor_ns, *([] if each.blocks is None else [each.blocks]), *each.values]
    return " AND ".join(parts), values


def _summaries(cursor: Cursor, ids: Sequence[bytes], floor_ns: int = 0) -> list[dict[str, Any]]:
    if not ids:
        return []
    found = cursor.rows(_SUMMARIES, [floor_ns, list(ids)])
    repeated = {row["trace_id"] for row in cursor.rows(_REPEATED, [floor_ns, list(ids)])}
    for each in found:
        each["n_plus_one"] = bool(each["repeated"]) or each["trace_id"] in repeated
    return found


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    head = found["head"]
    return {
        "trace_id": found["trace_id"].hex(),
        "name": head["name"],
        "service": head["service"],
        "services": found["services"],
        "start_ms": ms(found["start_ns"]),
        "duration_ms": ms(found["end_ns"] - found["start_ns"]),
        "spans": found["spans"],
        "errors": found["errors"],
        "status": STATUSES[head["status"]],
        "http_status": head["http_status"],
        "n_plus_one": found["n_plus_one"],
    }
