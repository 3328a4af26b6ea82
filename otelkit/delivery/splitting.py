"""Divides an encoded OTLP request: one that is longer than the next hop takes becomes several, down to one record.

An Export…ServiceRequest of any signal is a tree (opentelemetry/proto/collector/*/v1): resources have scopes, scopes
have spans, log records or metrics, and a metric's data have points. The leaves are divided; what stands above them is
said in each part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import NamedTuple

from otelkit.config.settings import Signal
from otelkit.delivery.wire import read_whole_fields, sized, varint

_RECORDS = ((1,), (2,), (2,))
_POINTS = (*_RECORDS, (5, 7, 9, 10, 11), (1,))  # gauge, sum, histogram, exponential histogram, summary
_BYTES_FIELD = 2


class Part(NamedTuple):
    """A request of its own, and how many records are in it."""

    body: bytes
    records: int


@dataclass(eq=False, slots=True)
class _Above:
    """A message that leaves stand in: its other fields, and the number of the field that it stands in itself."""

    number: int
    rest: bytes


_Leaf = tuple[tuple[_Above, ...], bytes]


def halves(signal: Signal, request: bytes) -> tuple[Part, Part] | None:
    """The request in two, of about as many bytes each; None where it has one record.

    Raises ValueError for bytes that are no such request.
    """
    leaves = list(_leaves(request, _POINTS if signal == "metrics" else _RECORDS))
    if len(leaves) < 2:  # one cannot be divided
        return None
    ends = list(accumulate(len(leaf) for _, leaf in leaves))
    middle = next(place for place, end in enumerate(ends, 1) if end * 2 >= ends[-1])
    middle = min(middle, len(leaves) - 1)
    return _part(leaves[:middle]), _part(leaves[middle:])


def split(signal: Signal, request: bytes, records: int, longest: int) -> list[Part]:
    """The request in parts of at most `longest` bytes, as far as single records allow."""
    divided = halves(signal, request) if len(request) > longest else None
    if divided is None:
        return [Part(request, records)]
    return [each for part in divided for each in split(signal, part.body, part.records, longest)]


def _part(leaves: Sequence[_Leaf]) -> Part:
    return Part(_message(leaves, 0), len(leaves))


def _leaves(message: bytes, levels: Sequence[tuple[int, ...]], above: tuple[_Above, ...] = ()) -> Iterator[_Leaf]:
    rest: list[bytes] = []
    below: list[tuple[int, bytes, bytes]] = []
    for number, value, whole in read_whole_fields(message):
        if number in levels[0] and isinstance(value, bytes):
            below.append((number, value, whole))
        else:
            rest.append(whole)
    if above:
        above[-1].rest = b"".join(rest)
    for number, value, whole in below:
        if len(levels) == 1:
            yield above, whole
        else:
            yield from _leaves(value, levels[1:], (*above, _Above(number, b"")))


def _message(leaves: Iterable[_Leaf], depth: int) -> bytes:
    parts = []
    for above, group in groupby(leaves, key=lambda leaf: leaf[0][depth] if depth < len(leaf[0]) else None):
        if above is None:
            parts += [leaf for _, leaf in group]
        else:
            content = above.rest + _message(group, depth + 1)
            parts.append(sized(varint(above.number << 3 | _BYTES_FIELD), content))
    return b"".join(parts)
