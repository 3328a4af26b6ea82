"""The list of traces, newest first.

A trace is listed by its start. Its spans come in parts, in any order: each written batch left one part of it, and the
parts are put together here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from otelkit.viewer.filter import EVERYTHING, Filter
from otelkit.viewer.filter_sql import STATUSES, condition, of_trace
from otelkit.viewer.reading.asking import LATEST_NS, Cursor, Question, ms
from otelkit.viewer.reading.backwards import Listing, begin, search, together
from otelkit.viewer.reading.candidates import candidates
from otelkit.viewer.rollups import N_PLUS_ONE

_OLDER_NS = 600_000_000_000
_FEW_BLOCKS = 1_000
"""Looked through in two steps: the newest, in which the page most likely is, and all others."""

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
    return together(_LISTING, found_traces(cursor, question))


def found_traces(cursor: Cursor, question: Question) -> Iterator[dict[str, Any]]:
    """The same page in parts, as it is found."""
    conditions = _conditions(cursor, question.filter)
    few = all(each.blocks is not None and len(each.blocks) <= _FEW_BLOCKS for each in conditions)
    first = begin(question)

    def look(floor_ns: int, to_ns: int) -> list[dict[str, Any]]:
        before = first if to_ns == first[0] else (to_ns, "")
        # Blocks narrow it enough, and nothing is later than the newest.
        last_ns = LATEST_NS if few or to_ns == LATEST_NS else _last_ns(cursor, floor_ns, to_ns)
        return _within(cursor, _matched(conditions, floor_ns, last_ns), floor_ns, before, question.limit + 1)

    first_ns = _first_ns(cursor, conditions, question) if conditions and few else None
    yield from search(cursor, _LISTING, question, look, first_ns=first_ns)


def _first_ns(cursor: Cursor, conditions: Sequence[_OfSpans], question: Question) -> int:
    """Since when as many blocks began as the page has traces: each has one that matches, unless two attributes have one
    hash, or there is another condition. Where there are no more blocks, all of the question's time.
    """
    blocks = min((each.blocks for each in conditions if each.wanted and each.blocks), key=len, default=[])
    if len(blocks) <= question.limit:
        return question.from_ns
    if question.before is None and question.to_ns == LATEST_NS:
        blocks = blocks[-question.limit - 1 :]
    to_ns, _ = begin(question)
    newest = (
        "SELECT min(start_ns) AS ns FROM viewer.spans WHERE block IN (SELECT unnest(?)) AND start_ns <= ?"
        f" GROUP BY block ORDER BY ns DESC LIMIT {question.limit + 1}"
    )
    (floor_ns,) = cursor.one(f"SELECT min(ns) FROM ({newest})", [blocks, to_ns])
    return question.from_ns if floor_ns is None else int(floor_ns)


def matching(cursor: Cursor, ids: Sequence[bytes], found: Filter, floor_ns: int) -> list[dict[str, Any]]:
    """Those of some traces that a filter lists for spans that started since, as the list shows them.

    What of them is older than ten minutes before is left out: the whole of the table would have to be looked at.
    """
    if found != EVERYTHING:
        sql, values = _matched(_conditions(None, found), floor_ns, LATEST_NS)
        rows = cursor.rows(
            "SELECT DISTINCT trace_id FROM viewer.trace_parts"
            f" WHERE start_ns >= ? AND trace_id IN (SELECT unnest(?)) AND {sql}",
            [floor_ns, list(ids), *values],
        )
        ids = [row["trace_id"] for row in rows]
    return [_shown(each) for each in _summaries(cursor, ids, floor_ns - _OLDER_NS)] if ids else []


def _within(
    cursor: Cursor, matched: tuple[str, list[Any]], floor_ns: int, before: tuple[int, str], most: int
) -> list[dict[str, Any]]:
    """Of the traces that started in a span of time and match so many; newest first."""
    sql, values = matched
    window = 4 * most
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
        if whole or len(kept) >= most:
            return sorted(kept, key=lambda each: (-each["start_ns"], each["trace_id"]))[:most]
        window *= 4


def _last_ns(cursor: Cursor, floor_ns: int, to_ns: int) -> int:
    """When the last span ends of the traces that have a part that started in a span of time."""
    (found,) = cursor.one(
        "SELECT max(end_ns) FROM viewer.trace_parts WHERE start_ns >= ? AND trace_id IN"
        " (SELECT trace_id FROM viewer.trace_parts WHERE start_ns BETWEEN ? AND ?)",
        [floor_ns, floor_ns, to_ns],
    )
    return int(found or 0)


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


def _matched(conditions: Sequence[_OfSpans], floor_ns: int, last_ns: int) -> tuple[str, list[Any]]:
    """A condition on the parts of traces: that the spans of their trace match, which start in a span of time."""
    parts, values = ["true"], []
    for each in conditions:
        among = "" if each.blocks is None else "block IN (SELECT unnest(?)) AND "
        spans = f"SELECT trace_id FROM viewer.spans WHERE start_ns BETWEEN ? AND ? AND {among}{each.sql}"
        parts.append(f"trace_id {'' if each.wanted else 'NOT '}IN ({spans})")
        values += [floor_ns, last_ns, *([] if each.blocks is None else [each.blocks]), *each.values]
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


_LISTING = Listing("traces", "trace_parts", "start_ns", lambda row: row["trace_id"].hex(), _shown)
