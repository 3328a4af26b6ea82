"""The time that rates are of: the same for routes, services and the edges between them."""

from __future__ import annotations

from otelkit.viewer.reading.asking import Cursor, Question
from otelkit.viewer.rollups import MINUTE_NS


def minutes(question: Question) -> list[int]:
    """The first and the last minute that a question is about."""
    return [question.from_ns // MINUTE_NS, question.to_ns // MINUTE_NS]


def window_s(cursor: Cursor, question: Question) -> int:
    """From the first to the last minute, both included, in which anybody was asked anything within the question's
    time; whatever its filter is.
    """
    first, last = cursor.one(
        "SELECT min(minute), max(minute) FROM (SELECT minute FROM viewer.red UNION ALL SELECT minute FROM viewer.edges)"
        " WHERE minute >= ? AND minute <= ?",
        minutes(question),
    )
    return 60 if first is None else 60 * int(last - first + 1)
