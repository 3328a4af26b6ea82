"""The limit of series a metric, over all processes of a group: what is beyond it is added up under the overflow's.

Which label sets are exported as themselves stands in a file of the group, so that whoever exports next goes on with
the same ones: a sum that stays is counted in one series for ever, in its own or in the overflow's, and neither falls.

    record   eight bytes that stand for a metric, sixteen that stand for one of its series (zeros: the limit was told)
    record   …

The file is read and written under a lock of its own: the group's is held for moments only. Series that end with their
process (gauges, states) take no place for ever: of those, whoever exports keeps the ones it had.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from otelkit.engine.locks import lock
from otelkit.engine.merging import OF_THE_LIVING, Source
from otelkit.engine.series import LIMIT, OVERFLOW
from otelkit.engine.shared import Entry, Kind
from otelkit.runtime import guard

logger = logging.getLogger("otelkit.engine")

_METRIC_BYTES = 8
_RECORD_BYTES = 24
_TOLD = bytes(16)
_KEPT_KEYS = 20_000
_OVERFLOWS = b"," + json.dumps(OVERFLOW, sort_keys=True, separators=(",", ":")).encode() + b"]"

Place = tuple[bytes, int | None]


@dataclass(slots=True)
class _Family:
    """One metric. `overflow` is the key of its overflow's series, `beginning` what all its keys begin with, `admitted`
    what stands for the series that are exported as themselves.
    """

    overflow: bytes
    beginning: bytes
    digest: bytes
    admitted: set[bytes]


class Limiter:
    """Keeps each metric within the limit. For one process; not thread-safe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read_to = 0
        self._admitted: dict[bytes, set[bytes]] = {}
        self._told: set[bytes] = set()
        self._fresh = bytearray()
        self._families: dict[bytes, _Family] = {}
        self._last: _Family | None = None
        self._family_of: dict[bytes, _Family] = {}
        self._kept: dict[bytes, dict[Place, None]] = {}

    def limited(self, sources: Iterable[Source]) -> list[Source]:
        """The sources, with what is beyond the limit under the overflow's key. Takes the file's lock; raises
        TimeoutError where others have it for too long.
        """
        found = [Source(list(source.entries), source.slot) for source in sources]
        lock(self._fd)
        try:
            self._take_in()
            found = [Source([self._lasting(entry, found) for entry in each.entries], each.slot) for each in found]
            self._write_down()
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        beyond = self._beyond([source for source in found if source.slot is not None])
        if not beyond:
            return found
        return [Source(list(self._ending(source, beyond)), source.slot) for source in found]

    # -- sums that stay

    def _lasting(self, entry: Entry, sources: list[Source]) -> Entry:
        if entry.kind in OF_THE_LIVING or entry.kind is Kind.ENDED:
            return entry
        family = self._family(entry.key)
        digest = _digest(entry.key)
        if digest in family.admitted or entry.key == family.overflow:
            return entry
        if len(family.admitted) < LIMIT - 1:
            family.admitted.add(digest)
            self._fresh += family.digest + digest
            return entry
        if family.digest not in self._told:
            keys = {each.key for source in sources for each in source.entries if each.key.startswith(family.beginning)}
            self._tell(family, [key for key in keys if _digest(key) in family.admitted])
        return Entry(family.overflow, entry.kind, entry.numbers)

    def _take_in(self) -> None:
        """What other processes have decided since."""
        content = os.pread(self._fd, os.fstat(self._fd).st_size - self._read_to, self._read_to)
        # Who wrote the rest, if any, has not got to the end of it.
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
            del fresh[:whole]

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
                self._tell(self._families[overflow], {key for key, _ in in_order})
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
        # The series of a metric stand together in a file, mostly; and what begins alike up to the attributes is of the
        # same metric, since JSON is read from one end.
        if self._last is not None and key.startswith(self._last.beginning):
            return self._last
        found = self._family_of.get(key)
        if found is None:
            found = self._parsed(key)
            if len(self._family_of) >= _KEPT_KEYS:
                self._family_of.clear()
            self._family_of[key] = found
        self._last = found
        return found

    def _parsed(self, key: bytes) -> _Family:
        named = json.dumps(json.loads(key)[:-1], sort_keys=True, separators=(",", ":")).encode()[:-1]
        overflow = named + _OVERFLOWS
        family = self._families.get(overflow)
        if family is None:
            digest = blake2b(named, digest_size=_METRIC_BYTES).digest()
            family = _Family(overflow, named + b",{", digest, self._admitted.setdefault(digest, set()))
            self._families[overflow] = family
        return family


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=len(_TOLD)).digest()


def _place(entry: Entry, source: Source) -> Place:
    return entry.key, source.slot if entry.kind is Kind.GAUGE else None


def _labels(key: bytes) -> set[tuple[str, str]]:
    return {(name, repr(value)) for name, value in json.loads(key)[-1].items()}
