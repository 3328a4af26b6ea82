"""The limit of series a metric, over all processes of a group: what is beyond it is added up under the overflow's.

Which label sets are exported as themselves stands in a file of the group, so that whoever exports next goes on with
the same ones: a sum that stays is counted in one series for ever, in its own or in the overflow's, and neither falls.

    record   eight bytes that stand for a metric, sixteen that stand for one of its series (zeros: the limit was told)
    record   …

The file is read and written under the group's lock. Series that end with their process (gauges, states) take no place
for ever: of those, whoever exports keeps the ones it had.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from otelkit.engine.merging import OF_THE_LIVING, Source
from otelkit.engine.series import LIMIT, OVERFLOW
from otelkit.engine.shared import Entry, Kind
from otelkit.runtime import guard

logger = logging.getLogger("otelkit.engine")

_METRIC_BYTES = 8
_RECORD_BYTES = 24
_TOLD = bytes(16)
_KEPT_KEYS = 100_000
_OVERFLOWS = b"," + json.dumps(OVERFLOW, sort_keys=True, separators=(",", ":")).encode() + b"]"

Place = tuple[bytes, int | None]


@dataclass(slots=True)
class _Family:
    """One metric. `overflow` is the key of its overflow's series, `named` the part of it that all its keys begin with;
    `ours` are the keys whose series are exported as themselves, as far as this process has seen them.
    """

    overflow: bytes
    named: bytes
    digest: bytes
    admitted: set[bytes]
    ours: dict[bytes, None] = field(default_factory=dict)


class Limiter:
    """Keeps each metric within the limit. For one process, which holds the group's lock whenever it asks."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read_to = 0
        self._admitted: dict[bytes, set[bytes]] = {}
        self._told: set[bytes] = set()
        self._fresh = b""
        self._families: dict[bytes, _Family] = {}
        self._last: _Family | None = None
        self._family_of: dict[bytes, _Family] = {}
        self._exported_as: dict[bytes, bytes] = {}
        self._kept: dict[bytes, dict[Place, None]] = {}

    def limited(self, sources: Iterable[Source]) -> list[Source]:
        """The sources, with what is beyond the limit under the overflow's key."""
        self._take_in()
        found = [Source([self._lasting(entry) for entry in source.entries], source.slot) for source in sources]
        self._write_down()
        beyond = self._beyond([source for source in found if source.slot is not None])
        if not beyond:
            return found
        return [Source(list(self._ending(source, beyond)), source.slot) for source in found]

    # -- sums that stay

    def _lasting(self, entry: Entry) -> Entry:
        if entry.kind in OF_THE_LIVING or entry.kind is Kind.ENDED:
            return entry
        key = self._exported_as.get(entry.key)
        if key is None:
            key = self._decide(entry.key)
            if len(self._exported_as) >= _KEPT_KEYS:
                self._exported_as.clear()
            self._exported_as[entry.key] = key
        return entry if key == entry.key else Entry(key, entry.kind, entry.numbers)

    def _decide(self, key: bytes) -> bytes:
        family = self._family(key)
        if key == family.overflow:
            return key
        digest = blake2b(key, digest_size=len(_TOLD)).digest()
        if digest not in family.admitted:
            if len(family.admitted) >= LIMIT - 1:
                self._tell(family, family.ours)
                return family.overflow
            family.admitted.add(digest)
            self._fresh += family.digest + digest
        family.ours[key] = None
        return key

    def _take_in(self) -> None:
        """What other processes have decided since."""
        size = os.fstat(self._fd).st_size
        size -= size % _RECORD_BYTES  # who wrote the rest has not got to the end of it
        content = os.pread(self._fd, size - self._read_to, self._read_to)
        for at in range(0, len(content) - len(content) % _RECORD_BYTES, _RECORD_BYTES):
            metric, series = content[at : at + _METRIC_BYTES], content[at + _METRIC_BYTES : at + _RECORD_BYTES]
            if series == _TOLD:
                self._told.add(metric)
            else:
                self._admitted.setdefault(metric, set()).add(series)
            self._read_to += _RECORD_BYTES

    def _write_down(self) -> None:
        fresh = self._fresh
        if not fresh:
            return
        with guard.guarded("the list of the metrics' series"):  # no room on the disk: the next time
            written = os.pwrite(self._fd, fresh, self._read_to)
            whole = written - written % _RECORD_BYTES
            self._read_to += whole
            self._fresh = fresh[whole:]

    def _tell(self, family: _Family, keys: Iterable[bytes]) -> None:
        if family.digest in self._told:
            return
        self._told.add(family.digest)
        self._fresh += family.digest + _TOLD
        values = {pair for key in keys for pair in _labels(key)}
        worst, different = Counter(name for name, _ in values).most_common(1)[0] if values else ("", 0)
        logger.warning(
            "the metric %s has %d series over all processes of the service; further label sets are added up under"
            " otel.metric.overflow. The attribute with the most values is %r (%d): take it away, or group its values",
            json.loads(family.overflow)[4],
            LIMIT,
            worst,
            different,
        )

    # -- what ends with its process

    def _beyond(self, living: list[Source]) -> set[Place]:
        """Which of the living processes' series have no room."""
        found: dict[bytes, dict[Place, None]] = {}
        rooms: dict[bytes, int] = {}
        for source in living:
            for entry in source.entries:
                if entry.kind in OF_THE_LIVING:
                    family = self._family(entry.key)
                    if entry.key != family.overflow:
                        place = _place(entry, source)
                        found.setdefault(family.overflow, {})[place] = None
                        # Gauges are not added up: each process may have an overflow of its own.
                        rooms[family.overflow] = LIMIT - (len(living) if entry.kind is Kind.GAUGE else 1)
        beyond: set[Place] = set()
        for overflow, places in found.items():
            had = self._kept.get(overflow, {})
            in_order = [*(place for place in had if place in places), *(place for place in places if place not in had)]
            room = max(0, rooms[overflow])
            self._kept[overflow] = dict.fromkeys(in_order[:room])
            beyond.update(in_order[room:])
            if len(in_order) > room:
                self._tell(self._families[overflow], [key for key, _ in in_order])
        self._kept = {overflow: kept for overflow, kept in self._kept.items() if overflow in found}
        return beyond

    def _ending(self, source: Source, beyond: set[Place]) -> Iterator[Entry]:
        last: dict[bytes, Entry] = {}
        for entry in source.entries:
            if entry.kind not in OF_THE_LIVING or source.slot is None:
                yield entry
                continue
            overflow = self._family(entry.key).overflow
            if entry.key != overflow and _place(entry, source) not in beyond:
                yield entry
            elif entry.kind is Kind.GAUGE:
                last[overflow] = Entry(overflow, entry.kind, entry.numbers)
            else:
                yield Entry(overflow, entry.kind, entry.numbers)
        yield from last.values()

    # -- the metrics

    def _family(self, key: bytes) -> _Family:
        found = self._family_of.get(key)
        if found is None:
            found = self._last
            # The series of a metric stand together in a file, mostly, and JSON is read from one end only: what goes on
            # with the attributes right after the same beginning is of the same metric.
            if found is None or not key.startswith(found.named + b",{"):
                found = self._last = self._parsed(key)
            if len(self._family_of) >= _KEPT_KEYS:
                self._family_of.clear()
            self._family_of[key] = found
        return found

    def _parsed(self, key: bytes) -> _Family:
        named = json.dumps(json.loads(key)[:-1], sort_keys=True, separators=(",", ":")).encode()[:-1]
        overflow = named + _OVERFLOWS
        family = self._families.get(overflow)
        if family is None:
            digest = blake2b(named, digest_size=_METRIC_BYTES).digest()
            family = _Family(overflow, named, digest, self._admitted.setdefault(digest, set()))
            self._families[overflow] = family
        return family


def _place(entry: Entry, source: Source) -> Place:
    return entry.key, source.slot if entry.kind is Kind.GAUGE else None


def _labels(key: bytes) -> set[tuple[str, str]]:
    return {(name, repr(value)) for name, value in json.loads(key)[-1].items()}
