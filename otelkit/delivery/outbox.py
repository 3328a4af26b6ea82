"""Encoded batches on their way: one lane a signal, each in order, each with its own pause after a failure, in turn.

A lane has the batches of now, and those that were read back from the spool; where there are both they take turns, so
that neither keeps the other waiting.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelkit.config.settings import Signal
from otelkit.delivery.ledger import DropReason
from otelkit.delivery.splitting import Part

if TYPE_CHECKING:
    from otelkit.delivery.places import Frame

_RECALLED = 2  # batches of a lane that were read back: one in flight, one to follow


@dataclass(eq=False, slots=True)
class Batch:
    """One encoded, compressed request; `delivered` is called when the next hop has acknowledged it.

    `raw` is its length before compression, `key` the number that a later batch has which says all that it says (0: none
    does), `frame` where it is on disk as well. `parts` are what is left to send of one that was too large for the next
    hop, `fates` what has become of the other parts (None: delivered).
    """

    signal: Signal
    body: bytes
    records: int
    sequence: int = 0
    delivered: Callable[[], None] | None = None
    raw: int = 0
    key: int = 0
    frame: Frame | None = None
    parts: list[Part] = field(default_factory=list)
    fates: Counter[DropReason | None] = field(default_factory=Counter)

    @property
    def next(self) -> Part:
        """What is sent next: the first of its parts, or all of it."""
        return self.parts[0] if self.parts else Part(self.body, self.records)

    def ended(self, rest: DropReason | None) -> Counter[DropReason | None]:
        """What has become of its records, where `rest` has of those that were not sent."""
        fates = Counter(self.fates)  # at one moment: at the end of the process the sender may be adding to them
        return fates + Counter({rest: self.records - fates.total()})


Evict = Callable[[Batch, DropReason], None]


class Lane:
    """The batches of one signal, oldest first; one may be in flight. `failing`: the last attempt failed."""

    def __init__(self) -> None:
        self.batches: deque[Batch] = deque()
        self.recalled: deque[Batch] = deque()
        self.not_before = 0.0
        self.in_flight: Batch | None = None
        self.served = 0
        self.failing = False
        self.attempted = False
        self._recalled_last = False

    def first(self) -> Batch:
        """The batch whose turn it is."""
        take_recalled = bool(self.recalled) and not (self.batches and self._recalled_last)
        self._recalled_last = take_recalled
        return (self.recalled if take_recalled else self.batches)[0]

    @property
    def waits(self) -> bool:
        """Whether it has a batch."""
        return bool(self.batches or self.recalled)

    def everything(self) -> list[Batch]:
        """All its batches."""
        return [*self.recalled, *self.batches]


class Outbox:
    """Bounded by bytes; the lock is held for list operations only, never while something is encoded or sent.

    `offer` is the worker's side, `take`, `settle` and `retry` are the sender's, `wait_settled` is a flush's.
    """

    def __init__(self, signals: Iterable[Signal], max_bytes: int) -> None:
        self._lanes = {signal: Lane() for signal in signals}
        self._max_bytes = max_bytes
        self._bytes = 0
        self._sequence = 0
        self._served = 0
        self._unsettled: set[int] = set()
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self._leaving = False

    def offer(self, batch: Batch, evict: Evict) -> list[Batch]:
        """Takes a batch in; returns those that have to go for it (itself when too large, or too late).

        `evict` counts them, before a waiting flush sees that they are gone.
        """
        with self._changed:
            if self._closed or len(batch.body) > self._max_bytes:
                evict(batch, DropReason.PENDING_FULL)
                return [batch]
            self._sequence += 1
            batch.sequence = self._sequence
            lane = self._lanes[batch.signal]
            gone = self._superseded(lane, batch.key)
            for old in gone:
                self._remove(old)
                evict(old, DropReason.SUPERSEDED)
            lane.batches.append(batch)
            self._unsettled.add(batch.sequence)
            self._bytes += len(batch.body)
            while self._bytes > self._max_bytes and (oldest := self._oldest_waiting()) is not None:
                self._remove(oldest)
                evict(oldest, DropReason.PENDING_FULL)
                gone.append(oldest)
            self._changed.notify_all()
            return gone

    @staticmethod
    def _superseded(lane: Lane, key: int) -> list[Batch]:
        # Only in an outage: what will be sent anyway has exemplars that a later batch has not.
        if not key or not lane.failing:
            return []
        return [old for old in lane.everything() if old.key == key and old is not lane.in_flight]

    def _oldest_waiting(self) -> Batch | None:
        waiting = (batch for lane in self._lanes.values() for batch in lane.batches if batch is not lane.in_flight)
        return min(waiting, key=lambda batch: batch.sequence, default=None)

    def _remove(self, batch: Batch) -> None:
        lane = self._lanes[batch.signal]
        (lane.recalled if batch in lane.recalled else lane.batches).remove(batch)
        self._unsettled.discard(batch.sequence)
        self._bytes -= len(batch.body)

    # -- between memory and disk

    @property
    def overflows(self) -> bool:
        """Whether `spill` may have something to give out. Asked at every turn of the worker, so without the lock."""
        return self._leaving or self._bytes > self._max_bytes // 2 or any(lane.failing for lane in self._lanes.values())

    def leave(self) -> None:
        """The process ends: from now on everything shall wait on disk, until it is its turn."""
        self._leaving = True

    def spill(self, takes: Callable[[Signal], bool]) -> list[Batch]:
        """Takes out what shall wait on disk, where its signal can: of failing lanes, and of all once the process ends,
        everything, of the others the oldest where more than half of the room is used. Such a batch is unsettled still.
        """
        with self._changed:
            found: list[Batch] = []
            for signal, lane in self._lanes.items():
                if (lane.failing or self._leaving) and takes(signal):
                    found += (batch for batch in lane.batches if batch is not lane.in_flight)
            left = self._bytes - sum(len(batch.body) for batch in found)
            if left > self._max_bytes // 2:
                chosen = set(map(id, found))
                others = [batch for signal, lane in self._lanes.items() if takes(signal) for batch in lane.batches
                          if batch is not lane.in_flight and id(batch) not in chosen]  # fmt: skip
                for batch in sorted(others, key=lambda batch: batch.sequence):
                    if left <= self._max_bytes // 2:
                        break
                    found.append(batch)
                    left -= len(batch.body)
            for batch in found:
                self._lanes[batch.signal].batches.remove(batch)
                self._bytes -= len(batch.body)
            return found

    def put_back(self, batch: Batch) -> None:
        """Takes in again what `spill` gave out."""
        with self._changed:
            lane = self._lanes[batch.signal]
            lane.batches = deque(sorted((*lane.batches, batch), key=lambda batch: batch.sequence))
            self._bytes += len(batch.body)
            self._changed.notify_all()

    def wants(self, signal: Signal) -> bool:
        """Whether a batch should be read back from the disk."""
        with self._changed:
            return not self._closed and len(self._lanes[signal].recalled) < _RECALLED

    def recall(self, batch: Batch) -> bool:
        """Takes a batch in that was read back from the disk; False where it is too late."""
        with self._changed:
            if self._closed:
                return False
            self._lanes[batch.signal].recalled.append(batch)
            self._bytes += len(batch.body)
            self._changed.notify_all()
            return True

    def discard(self, sequence: int) -> None:
        """A batch that was spilled is gone from the disk."""
        with self._changed:
            self._unsettled.discard(sequence)
            self._changed.notify_all()

    # -- the sender's side

    def take(self, signals: Iterable[Signal]) -> Batch | None:
        """Waits for the batch of these signals that is due next and marks it as in flight; None once the outbox is
        closed.
        """
        lanes = [self._lanes[signal] for signal in signals]
        with self._changed:
            while not self._closed:
                if (batch := self._due(lanes)) is not None:
                    return batch
                now = time.monotonic()
                pauses = [lane.not_before - now for lane in lanes if lane.waits]
                self._changed.wait(max(0.0, min(pauses)) if pauses else None)
            return None

    def take_due(self, signals: Iterable[Signal]) -> Batch | None:
        """The batch that is due now, marked as in flight; None where there is none, without waiting."""
        lanes = [self._lanes[signal] for signal in signals]
        with self._changed:
            return None if self._closed else self._due(lanes)

    def _due(self, lanes: Iterable[Lane]) -> Batch | None:
        now = time.monotonic()
        due = [lane for lane in lanes if lane.waits and lane.not_before <= now]
        if not due:
            return None
        # Not the oldest batch of all: a signal with a long queue must not keep the others waiting.
        lane = min(due, key=lambda lane: (lane.served, lane.everything()[0].sequence))
        lane.served = self._served = self._served + 1
        lane.in_flight = lane.first()
        return lane.in_flight

    def settle(self, batch: Batch, count: Callable[[], None], *, pause_s: float | None = None) -> bool:
        """Ends a batch's flight for good; `count` counts its outcome, before a waiting flush sees it settled.
        `pause_s`: the next one would be answered alike, and is tried after this.

        Returns False, and counts nothing, where the batch is no longer the outbox's (given up at shutdown).
        """
        with self._changed:
            lane = self._lanes[batch.signal]
            if lane.in_flight is not batch:
                return False
            lane.in_flight = None
            lane.not_before = 0.0 if pause_s is None else time.monotonic() + pause_s
            lane.failing = pause_s is not None
            lane.attempted = lane.attempted or lane.failing
            self._remove(batch)
            count()
            self._changed.notify_all()
            return True

    def retry(self, batch: Batch, in_s: float) -> bool:
        """Ends a batch's flight, to be tried again after a pause; False as for `settle`."""
        with self._changed:
            lane = self._lanes[batch.signal]
            if lane.in_flight is not batch:
                return False
            lane.in_flight = None
            lane.not_before = time.monotonic() + in_s
            lane.failing = lane.attempted = True
            self._changed.notify_all()
            return True

    def proceed(self, batch: Batch) -> bool:
        """Ends a batch's flight, to send its next part in its turn; False as for `settle`."""
        with self._changed:
            lane = self._lanes[batch.signal]
            if lane.in_flight is not batch:
                return False
            lane.in_flight = None
            self._changed.notify_all()
            return True

    def hurry(self) -> None:
        """Ends every lane's pause: somebody waits."""
        with self._changed:
            for lane in self._lanes.values():
                lane.not_before = 0.0
                lane.attempted = False
            self._changed.notify_all()

    def wait_settled(self, up_to: int, deadline: float, *, gives_up: Callable[[Signal], bool] | None = None) -> bool:
        """Waits until every batch with a sequence number up to `up_to` is settled, until `deadline` (monotonic) at
        the latest; with `gives_up` no longer than until each lane for which it is true has failed once more.
        """

        def settled() -> bool:
            return all(sequence > up_to for sequence in self._unsettled)

        def hopeless() -> bool:
            return gives_up is not None and all(
                lane.failing and lane.attempted and gives_up(signal)
                for signal, lane in self._lanes.items()
                if lane.waits
            )

        with self._changed:
            self._changed.wait_for(lambda: settled() or hopeless(), max(0.0, deadline - time.monotonic()))
            return settled()

    @property
    def last_sequence(self) -> int:
        """The sequence number of the newest batch."""
        with self._changed:
            return self._sequence

    def close(self) -> list[Batch]:
        """Lets the sender go and returns what was not settled, oldest first; their late outcomes count no more."""
        with self._changed:
            self._closed = True
            left = sorted((b for lane in self._lanes.values() for b in lane.everything()), key=lambda b: b.sequence)
            for lane in self._lanes.values():
                lane.batches.clear()
                lane.recalled.clear()
                lane.in_flight = None
            self._unsettled.clear()
            self._bytes = 0
            self._changed.notify_all()
            return left

    def records(self, signal: Signal) -> int:
        """How many records of a signal wait or are in flight and are in memory alone."""
        with self._changed:
            return sum(batch.records for batch in self._lanes[signal].everything() if batch.frame is None)
