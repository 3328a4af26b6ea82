"""The series of one process in a file that its siblings read while it writes.

    header   magic and version, sequence, bytes used, the process's worker slot
    entry    size, kind, number of buckets, length of the key; the key; the numbers, of a fixed size; the exemplars
    entry    …

A key is the series' whole identity as JSON, written once. The numbers are written in place, into mapped memory: a
process that is killed leaves what it wrote last. The sequence is odd while numbers are being written, so that a reader
knows when it has read half of a change; a process killed at that instant leaves at worst one measurement of a
histogram's sum ahead of its buckets.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import Exemplar

MAGIC = b"OTKSER01"
HEADER = struct.Struct("<8sQQQ")
HEADER_BYTES = 64
ENTRY = struct.Struct("<IHHI4x")
NUMBER = struct.Struct("<Qqd")  # start, the value as an integer, else (not NaN) as a float
HISTOGRAM = struct.Struct("<Qddd")  # start, sum, minimum, maximum; the buckets' counts follow
EXEMPLAR = struct.Struct("<Qqd16s8s")  # time, value as above, trace, span
_READS = 50
_BYTES = "\0bytes"


class Kind(IntEnum):
    """How the series of many processes become one."""

    SUM = 0
    """A monotonic sum: added up, ended processes included."""
    TALLY = 1
    """A sum that also falls: added up, ended processes included."""
    STATE = 2
    """A sum that says how the processes are: those that live are added up."""
    GAUGE = 3
    """A last value: one series a living process, told apart by its slot."""
    HISTOGRAM = 4
    """Added up bucket by bucket, ended processes included."""
    ENDED = 5
    """No series: the names of the files whose numbers are in this one already."""


Number = int | float
Exemplars = list[Exemplar | None]


@dataclass(slots=True)
class Value:
    """The numbers of a sum or a gauge."""

    start_ns: int
    value: Number
    exemplars: Exemplars = field(default_factory=lambda: [None])


@dataclass(slots=True)
class Distribution:
    """The numbers of a histogram."""

    start_ns: int
    total: float
    minimum: float
    maximum: float
    counts: list[int]
    exemplars: Exemplars = field(default_factory=list)


Numbers = Value | Distribution


class Entry(NamedTuple):
    """One series as it was read; `key` is its identity."""

    key: bytes
    kind: Kind
    numbers: Numbers


def body_size(kind: Kind, slots: int) -> int:
    """How many bytes the numbers and exemplars of a series take."""
    if kind is Kind.HISTOGRAM:
        return HISTOGRAM.size + slots * (8 + EXEMPLAR.size)
    return NUMBER.size + EXEMPLAR.size


def split(value: Number) -> tuple[int, float]:
    """A number as it is written: as an integer and not a number, else 0 and a float."""
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return value, math.nan
    return 0, float(value)


def _joined(whole: int, other: float) -> Number:
    return whole if math.isnan(other) else other


def as_json(value: Any) -> Any:
    """What JSON cannot hold, for `json.dumps`. Raises TypeError for what cannot be told apart afterwards."""
    if isinstance(value, bytes):
        return {_BYTES: value.hex()}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def decoded(value: Any) -> Any:
    """An attribute's value as it was before it became JSON."""
    if isinstance(value, list):
        return tuple(decoded(item) for item in value)
    if isinstance(value, dict):
        if set(value) == {_BYTES}:
            return bytes.fromhex(value[_BYTES])
        return {key: decoded(item) for key, item in value.items()}
    return value


# -- reading


def read(path: Path) -> list[Entry]:
    """What a file says, a process's or the one of those that ended.

    Raises OSError where it cannot be read, ValueError where it is of another version.
    """
    content = b""
    for attempt in range(_READS):
        content = path.read_bytes()
        if len(content) < HEADER_BYTES:
            return []  # being made
        magic, sequence, _, _ = HEADER.unpack_from(content)
        if magic != MAGIC:
            raise ValueError(f"{path} holds series of another version")
        with path.open("rb") as file:
            _, after, _, _ = HEADER.unpack(file.read(HEADER.size))
        if sequence == after and not sequence & 1:
            break
        time.sleep(0.0002 * (attempt + 1))  # numbers are being written; who died meanwhile left them as they are
    return list(_entries(content))


def _entries(content: bytes) -> Iterator[Entry]:
    used = HEADER.unpack_from(content)[2]
    at = HEADER_BYTES
    while at + ENTRY.size <= min(used, len(content)):
        size, kind, slots, length = ENTRY.unpack_from(content, at)
        if size < ENTRY.size or at + size > len(content):
            raise ValueError(f"an entry of {size} bytes at {at} of {len(content)}")
        start = at + ENTRY.size
        key = content[start : start + length]
        numbers = start + -(-length // 8) * 8
        yield Entry(key, Kind(kind), _numbers(content, numbers, kind, slots))
        at += size


def _numbers(content: bytes, at: int, kind: int, slots: int) -> Numbers:
    if kind == Kind.HISTOGRAM:
        start_ns, total, minimum, maximum = HISTOGRAM.unpack_from(content, at)
        at += HISTOGRAM.size
        counts = list(struct.unpack_from(f"<{slots}Q", content, at))
        at += 8 * slots
        exemplars = [_exemplar(content, at + place * EXEMPLAR.size) for place in range(slots)]
        return Distribution(start_ns, total, minimum, maximum, counts, exemplars)
    start_ns, whole, other = NUMBER.unpack_from(content, at)
    return Value(start_ns, _joined(whole, other), [_exemplar(content, at + NUMBER.size)])


def _exemplar(content: bytes, at: int) -> Exemplar | None:
    time_ns, whole, other, trace, span = EXEMPLAR.unpack_from(content, at)
    if not time_ns:
        return None
    return Exemplar({}, _joined(whole, other), time_ns, int.from_bytes(span, "big"), int.from_bytes(trace, "big"))


# -- the file of those that ended


def write_ended(path: Path, entries: Iterable[Entry], names: Iterable[str]) -> None:
    """Replaces the file at once: series of processes that ended, without their exemplars, and the names of the files
    they came from. Raises OSError, and leaves the file as it was.
    """
    parts = [_packed(json.dumps(sorted(names)).encode(), Kind.ENDED, Value(0, 0))]
    parts += [_packed(entry.key, entry.kind, entry.numbers) for entry in entries]
    body = b"".join(parts)
    head = HEADER.pack(MAGIC, 0, HEADER_BYTES + len(body), 0).ljust(HEADER_BYTES, b"\0")
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(head + body)
    fresh.replace(path)


def _packed(key: bytes, kind: Kind, numbers: Numbers) -> bytes:
    if isinstance(numbers, Distribution):
        slots = len(numbers.counts)
        body = HISTOGRAM.pack(numbers.start_ns, numbers.total, numbers.minimum, numbers.maximum)
        body += struct.pack(f"<{slots}Q", *numbers.counts)
    else:
        slots = 0
        body = NUMBER.pack(numbers.start_ns, *split(numbers.value))
    padded = key.ljust(-(-len(key) // 8) * 8)
    size = ENTRY.size + len(padded) + body_size(kind, slots)
    return (ENTRY.pack(size, kind, slots, len(key)) + padded + body).ljust(size, b"\0")
