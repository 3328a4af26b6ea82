"""The way back in time: a page of a list is looked for in windows, the newest first, and told as it is found.

The first window has few rows, so that what is new is found soon; each further one has so many that looking through it
takes a quarter of a second. Windows have no time in common, and leave none out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from otelkit.viewer.reading.asking import Cursor, Question, ms

_FIRST_ROWS = 2_000
_WINDOW_S = 0.25
_GROWTH = 8
"""At most, from one window to the next: the first may be full of what is looked for, and the next have none of it."""

Row = dict[str, Any]
Look = Callable[[int, int], list[Row]]
"""What matches from a first to a last ns, newest first; of more than a page has it is one more than that."""


@dataclass(frozen=True)
class Listing:
    """A list that is looked through by time: its name in the API, the table and column of its times, which the rows
    have too, what tells rows of one ns apart, and a row as the API has it.
    """

    name: str
    table: str
    time: str
    id: Callable[[Row], str]
    shown: Callable[[Row], Row]


def begin(question: Question) -> tuple[int, str]:
    """Where a page begins: its last ns, and the id that the page before had last of that ns, if it had any."""
    last_ns, _, last_id = (question.before or "").partition("-")
    return (min(int(last_ns), question.to_ns), last_id) if last_ns else (question.to_ns, "")


def search(
    cursor: Cursor, listing: Listing, question: Question, look: Look, *, first_ns: int | None = None
) -> Iterator[dict[str, Any]]:
    """The parts of a page, one for each window; `first_ns`: where the first of two begins, if the caller knows better.

    Each has the rows that were found in it, `next`, the cursor of all that comes after them, `searched`, how much of
    all (0 to 1) was looked through by then, and `back_to_ms`, how far back.
    """
    left, searched = question.limit, 0.0
    for found, floor_ns, share in _windows(cursor, listing, question, look, first_ns):
        page, more = found[:left], len(found) > left
        left -= len(page)
        if more:
            floor_ns = page[-1][listing.time]
            after: str | None = f"{floor_ns}-{listing.id(page[-1])}"
        else:
            searched = share
            after = f"{floor_ns - 1}" if searched < 1 else None
        yield {
            listing.name: list(map(listing.shown, page)),
            "next": after,
            "searched": round(searched, 4),
            "back_to_ms": ms(floor_ns),
        }
        if not left:
            return


def together(listing: Listing, parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The whole of a page."""
    every = list(parts)
    return {listing.name: [row for part in every for row in part[listing.name]], "next": every[-1]["next"]}


def _windows(
    cursor: Cursor, listing: Listing, question: Question, look: Look, first_ns: int | None
) -> Iterator[tuple[list[Row], int, float]]:
    """What was found in each window, the ns at which it begins, and how much of all that and those before it are: 1
    for the last one, which there always is.
    """
    from_ns, (to_ns, _) = question.from_ns, begin(question)
    of = f"viewer.{listing.table} WHERE {listing.time} BETWEEN ? AND ?"
    totals = f"SELECT count(*), coalesce(min({listing.time}), ?) FROM {of}"
    every, oldest_ns = cursor.one(totals, [from_ns, from_ns, to_ns])
    rows, seen = float(_FIRST_ROWS), 0
    while True:
        floor_ns = from_ns
        if every and first_ns is not None:
            floor_ns, first_ns = max(first_ns, from_ns), from_ns
            if floor_ns > from_ns:
                (seen,) = cursor.one(f"SELECT count(*) FROM {of}", [floor_ns, to_ns])
        elif seen + rows < every:
            newest = f"SELECT {listing.time} AS ns FROM {of} ORDER BY ns DESC LIMIT {int(rows)}"
            bounds = f"SELECT coalesce(min(ns), ?), count(*) FROM ({newest})"
            floor_ns, count = cursor.one(bounds, [from_ns, from_ns, to_ns])
            seen += count
        began = time.monotonic()
        found = look(floor_ns, to_ns)
        took_s = time.monotonic() - began
        if floor_ns <= from_ns:
            yield found, oldest_ns, 1.0
            return
        yield found, floor_ns, min(seen / every, 0.9999)
        rows = max(_FIRST_ROWS, rows * min(_WINDOW_S / max(took_s, 1e-6), _GROWTH))
        to_ns = floor_ns - 1
