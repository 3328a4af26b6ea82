"""Which blocks of spans a filter can match in, from the hashes of attributes that are kept of each block."""

from __future__ import annotations

from otelkit.viewer.blocks import ANYTHING, hash_of
from otelkit.viewer.filter import And, Compare, Filter, Or
from otelkit.viewer.filter_sql import KEYS, OWN_COLUMNS, attribute_condition, attribute_texts
from otelkit.viewer.reading.asking import Cursor

_MOST = 20_000
"""Blocks; of what is in more of them the newest are found soon without."""


def candidates(cursor: Cursor, found: Filter) -> list[int] | None:
    """The blocks outside of which no span matches; None where nothing is known, or there are too many.

    They are those of now: what is written afterwards may match too.
    """
    blocks = _blocks(cursor, found)
    return None if blocks is None or len(blocks) > _MOST else sorted(blocks)


def _blocks(cursor: Cursor, found: Filter) -> set[int] | None:
    if isinstance(found, And):
        known = [each for part in found.parts if (each := _blocks(cursor, part)) is not None]
        return set.intersection(*known) if known else None
    if isinstance(found, Or):
        every: set[int] = set()
        for part in found.parts:
            blocks = _blocks(cursor, part)
            if blocks is None:
                return None
            every |= blocks
        return every
    return _of_attribute(cursor, found) if isinstance(found, Compare) else None


def _of_attribute(cursor: Cursor, found: Compare) -> set[int] | None:
    if found.operator != ":" or found.value.wild or found.key in KEYS["spans"] or found.key in OWN_COLUMNS:
        return None
    sql, values = attribute_condition("attributes", found)
    if cursor.one(f"SELECT count(*) FROM viewer.resources WHERE {sql}", values)[0]:
        return None  # all spans of a resource that has it match
    hashes = [ANYTHING, *map(hash_of, attribute_texts(found.key, found.value.text))]
    among = ", ".join(map(str, hashes))
    rows = cursor.rows(f"SELECT DISTINCT block FROM viewer.attribute_blocks WHERE hash IN ({among}) LIMIT {_MOST + 1}")
    return {row["block"] for row in rows} if len(rows) <= _MOST else None
