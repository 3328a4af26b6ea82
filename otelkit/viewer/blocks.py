"""Which attributes stand in which few hundred spans: a search for a rare value looks through those alone.

Spans are numbered by blocks in the order in which they come. Of each block the hashes of its distinct attributes
(`"key":value`, as the spans' JSON has them) are kept, four bytes each: what is in every span is there once a block, and
what is rare once a span. Two attributes of one hash make a search look through a block in vain, and change no answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import pyarrow as pa

from otelkit.viewer import schema

SPANS = 256
"""In a block at least, and less than twice as many."""
ANYTHING = 0
"""The hash that stands for all attributes of a block that has too many: it is always looked through."""

_MOST_HASHES = 50_000
_MOST_KEPT = 20_000
_LONGEST_KEPT = 200  # characters


def hash_of(pair: str) -> int:
    """The hash of an attribute; the same in every process and version."""
    return crc32(pair.encode("utf-8", "replace")) or 1


class Hashes(dict[str, int]):
    """The hashes of attributes, most of which come again. Bounded; threads may share it."""

    def __missing__(self, pair: str) -> int:
        """Works it out."""
        found = hash_of(pair)
        if len(pair) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[pair] = found
        return found

    def of(self, pairs: Iterable[str]) -> list[int]:
        """The distinct hashes of a block's attributes."""
        found = set(map(self.__getitem__, pairs))
        return list(found) if len(found) <= _MOST_HASHES else [ANYTHING]


class Blocks:
    """Numbers the blocks of what is written; owned by the writing thread."""

    def __init__(self, first: int) -> None:
        self._block = first
        self._spans = 0
        self._known: set[int] = set()

    def begin(self) -> None:
        """Begins a block: the one before is of another slice, or may not have been written."""
        self._block += 1
        self._spans = 0
        self._known = set()

    def number(self, spans: pa.Table, sets: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The spans with their blocks, and what to add to `attribute_blocks`.

        `sets` has for so many spans, one after the other, the hashes of their attributes.
        """
        places: list[int] = []
        hashes: list[int] = []
        blocks: list[int] = []
        for count, found in zip(sets.column("spans").to_pylist(), sets.column("hashes").to_pylist(), strict=True):
            if self._spans + count > 2 * SPANS or self._spans >= SPANS:
                self.begin()
            fresh = [each for each in found if each not in self._known]
            self._known.update(fresh)
            hashes += fresh
            blocks += [self._block] * len(fresh)
            places += [self._block] * count
            self._spans += count
        place = spans.schema.get_field_index("block")
        numbered = spans.set_column(place, spans.schema.field(place), pa.array(places, pa.int64()))
        made = schema.ARROW["attribute_blocks"]
        columns = [pa.array(hashes, pa.uint32()), pa.array(blocks, pa.int64())]
        return numbered, pa.table(columns, schema=made)
