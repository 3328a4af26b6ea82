"""What the three OTLP requests have in common: resources, scopes, the records under them, and the rows they become."""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from otelkit.delivery.wire import read_fields
from otelkit.viewer.blocks import SPANS, Hashes
from otelkit.viewer.tables import Tables, table_of
from otelkit.viewer.values import Malformed, json_of, key_value, object_of, text_json

MOST_NS = (1 << 63) - 1
FIXED64 = struct.Struct("<Q").unpack_from
_MOST_ROWS = 8_000
MOST_RECORDS = 200_000
"""Of one request: the smallest take two bytes each, and 32 MB of those a gigabyte, and a minute."""
_UNKNOWN = "unknown_service"
_HASHES = Hashes()


class Resource(NamedTuple):
    """Who sent something: the id is the same for the same attributes, in every process of the viewer."""

    id: int
    service: str
    release: str | None
    attributes: str


class Batch:
    """The rows of one or more requests, by table, and how many records could not be taken, by reason."""

    def __init__(self) -> None:
        self.spans: list[tuple[Any, ...]] = []
        self.pairs: set[str] = set()  # the attributes of the spans that no set has yet
        self.next_set = SPANS  # at so many spans
        self._sets: list[tuple[int, list[int]]] = []
        self._in_sets = 0
        self.logs: list[tuple[Any, ...]] = []
        self.points: list[tuple[Any, ...]] = []
        self.series: dict[int, tuple[Any, ...]] = {}
        self.errors: list[tuple[Any, ...]] = []
        self.edges: list[tuple[Any, ...]] = []
        self.resources: dict[int, Resource] = {}
        self.parts: list[Tables] = []
        self.records = 0
        self.rejected: dict[str, int] = {}

    def reject(self, reason: str) -> None:
        """Counts a record that could not be taken.

        Raises Malformed where there are too many.
        """
        count = self.rejected[reason] = self.rejected.get(reason, 0) + 1
        if count > MOST_RECORDS:
            raise Malformed(f"more than {MOST_RECORDS} records")

    def make_set(self) -> None:
        """Closes the set of attributes of the spans since the last one."""
        self._sets.append((len(self.spans) - self._in_sets, _HASHES.of(self.pairs)))
        self._in_sets = len(self.spans)
        self.next_set = self._in_sets + SPANS
        self.pairs.clear()

    def settle(self) -> None:
        """Makes tables of the rows that came together, which take a tenth of the memory.

        Raises Malformed where there are too many records.
        """
        received_ns = time.time_ns()
        if len(self.spans) > self._in_sets:
            self.make_set()
        rows = {
            "spans": self.spans,
            "sets": self._sets,
            "logs": self.logs,
            "points": self.points,
            "series": list(self.series.values()),
            "errors": self.errors,
            "resources": [(each.id, each.service, each.attributes, received_ns) for each in self.resources.values()],
        }
        self.records += len(self.spans) + len(self.logs) + len(self.points)
        if self.records > MOST_RECORDS:
            raise Malformed(f"more than {MOST_RECORDS} records")
        self.parts.append({table: table_of(table, found) for table, found in rows.items() if found})
        for each in (self.spans, self._sets, self.logs, self.points, self.errors):
            each.clear()
        self._in_sets, self.next_set = 0, SPANS
        self.series.clear()
        self.resources.clear()

    def settle_if_large(self) -> None:
        """Makes tables of what came together where that is much."""
        if len(self.spans) + len(self.logs) + len(self.points) >= _MOST_ROWS:
            self.settle()


@contextmanager
def reading(*also: type[Exception]) -> Iterator[None]:
    """Makes what reading beyond an end, or what is no text or number, raises one Malformed; `also` what else does."""
    cut_off: tuple[type[Exception], ...] = (IndexError, struct.error, *also)
    try:
        yield
    except Malformed:
        raise
    except cut_off as error:
        raise Malformed("truncated") from error
    except ValueError as error:
        raise Malformed(str(error)) from error


def resources(body: bytes, batch: Batch) -> Iterator[tuple[Resource, str, tuple[int, int]]]:
    """Each record of a request: its resource, its scope's name, and where in the body it stands."""
    for resource, scope, (start, end) in scopes(body):
        for place in messages(body, start, end, 0x12):
            batch.resources[resource.id] = resource
            yield resource, scope, place
            batch.settle_if_large()


def scopes(body: bytes) -> Iterator[tuple[Resource, str, tuple[int, int]]]:
    """The scopes of a request: the resource, the scope's name, and where its message with the records stands.

    The resource's and the scope's fields may stand before or after the records.
    """
    for outer_start, outer_end in messages(body, 0, len(body), 0x0A):
        resource = _resource(b"".join(body[a:b] for a, b in messages(body, outer_start, outer_end, 0x0A)))
        for start, end in messages(body, outer_start, outer_end, 0x12):
            scope = ""
            for at, until in messages(body, start, end, 0x0A):
                for number, value in read_fields(body[at:until]):
                    if number == 1 and isinstance(value, bytes):
                        scope = value.decode("utf-8", "replace")
            yield resource, scope, (start, end)


def messages(body: bytes, position: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the messages of a field stand, which has a tag of one byte.

    Raises Malformed where they are cut off, or among more other fields than a request may have records.
    """
    others = 0
    while position < end:
        if body[position] == wanted:
            size, position = varint(body, position + 1)
            if position + size > end:
                raise Malformed("truncated")
            yield position, position + size
            position += size
        else:
            position = skip(body, position)
            others += 1
            if others > MOST_RECORDS:
                raise Malformed(f"more than {MOST_RECORDS} records")
    if position != end:
        raise Malformed("truncated")


_known: dict[bytes, Resource] = {}
_MOST_KNOWN = 4_000


def _resource(encoded: bytes) -> Resource:
    found = _known.get(encoded)
    if found is None:
        pairs: dict[str, Any] = {}
        for number, value in read_fields(encoded):
            if number == 1 and isinstance(value, bytes):
                key, content = key_value(value)
                pairs[key] = content
        text = object_of([f"{text_json(key)}:{json_of(value)}" for key, value in sorted(pairs.items())])
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        release = pairs.get("service.version")
        found = Resource(
            int.from_bytes(digest, "big") >> 1,
            str(pairs.get("service.name") or _UNKNOWN),
            None if release is None else str(release),
            text,
        )
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[encoded] = found
    return found


def varint(body: bytes, position: int) -> tuple[int, int]:
    """A varint and where it ends; IndexError where the bytes end first."""
    number = body[position]
    position += 1
    if number < 128:
        return number, position
    number &= 127
    shift = 7
    while shift < 70:
        byte = body[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise Malformed("a varint of more than ten bytes")


def skip(body: bytes, position: int) -> int:
    """Where the field ends that begins here."""
    tag, position = varint(body, position)
    kind = tag & 7
    if tag >> 3 == 0:
        raise Malformed("a field number of 0")
    if kind == 0:
        return varint(body, position)[1]
    if kind == 1:
        return position + 8
    if kind == 5:
        return position + 4
    if kind == 2:
        size, position = varint(body, position)
        return position + size
    raise Malformed(f"wire type {kind}")
