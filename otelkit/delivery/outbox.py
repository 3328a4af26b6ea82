"""Encoded batches on their way: one lane a signal, each in order, each with its own pause after a failure, in turn."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from otelkit.config.settings import Signal


@dataclass(slots=True)
class Batch:
    """One encoded, compressed request; `delivered` is called when the next hop has acknowledged it."""

    signal: Signal
    body: bytes
    records: int
    sequence: int = 0
    delivered: Callable[[], None] | None = None


class Lane:
    """The batches of one signal, oldest first; the first one may be in flight."""

    def __init__(self) -> None:
        self.batches: deque[Batch] = deque()
        self.not_before = 0.0
        self.in_flight: Batch | None = None
        self.served = 0


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

    def offer(self, batch: Batch, evict: Callable[[Batch], None]) -> None:
        """Takes a batch in, and evicts those that have to go for it (itself when too large, or too late).

        `evict` counts them, before a waiting flush sees that they are gone.
        """
        with self._changed:
            if self._closed or len(batch.body) > self._max_bytes:
                evict(batch)
                return
            self._sequence += 1
            batch.sequence = self._sequence
            lane = self._lanes[batch.signal]
            lane.batches.append(batch)
            self._unsettled.add(batch.sequence)
            self._bytes += len(batch.body)
            while self._bytes > self._max_bytes and (oldest := self._oldest_waiting()) is not None:
                self._remove(oldest)
                evict(oldest)
            self._changed.notify_all()

    def _oldest_waiting(self) -> Batch | None:
        waiting = (batch for lane in self._lanes.values() for batch in lane.batches if batch is not lane.in_flight)
        return min(waiting, key=lambda batch: batch.sequence, default=None)

    def _remove(self, batch: Batch) -> None:
        self._lanes[batch.signal].batches.remove(batch)
        self._unsettled.discard(batch.sequence)
        self._bytes -= len(batch.body)

    def take(self) -> Batch | None:
        """Waits for the batch that is due next and marks it as in flight; None once the outbox is closed."""
        with self._changed:
            while not self._closed:
                if (batch := self._due()) is not None:
                    return batch
                now = time.monotonic()
                pauses = [lane.not_before - now for lane in self._lanes.values() if lane.batches]
                self._changed.wait(max(0.0, min(pauses)) if pauses else None)
            return None

    def take_due(self) -> Batch | None:
        """The batch that is due now, marked as in flight; None where there is none, without waiting."""
        with self._changed:
            return None if self._closed else self._due()

    def _due(self) -> Batch | None:
        now = time.monotonic()
        due = [lane for lane in self._lanes.values() if lane.batches and lane.not_before <= now]
        if not due:
            return None
        # Not the oldest batch of all: a signal with a long queue must not keep the others waiting.
        lane = min(due, key=lambda lane: (lane.served, lane.batches[0].sequence))
        lane.served = self._served = self._served + 1
        lane.in_flight = lane.batches[0]
        return lane.in_flight

    def settle(self, batch: Batch, count: Callable[[], None]) -> bool:
        """Ends a batch's flight for good; `count` counts its outcome, before a waiting flush sees it settled.

        Returns False, and counts nothing, where the batch is no longer the outbox's (given up at shutdown).
        """
        with self._changed:
            lane = self._lanes[batch.signal]
            if lane.in_flight is not batch:
                return False
            lane.in_flight = None
            lane.not_before = 0.0
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
            self._changed.notify_all()
            return True

    def hurry(self) -> None:
        """Ends every lane's pause: somebody waits."""
        with self._changed:
            for lane in self._lanes.values():
                lane.not_before = 0.0
            self._changed.notify_all()

    def wait_settled(self, up_to: int, deadline: float) -> bool:
        """Waits until every batch with a sequence number up to `up_to` is settled, until `deadline` (monotonic) at
        the latest.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: all(sequence > up_to for sequence in self._unsettled),
                max(0.0, deadline - time.monotonic()),
            )

    @property
    def last_sequence(self) -> int:
        """The sequence number of the newest batch."""
        with self._changed:
            return self._sequence

    def close(self) -> list[Batch]:
        """Lets the sender go and returns what was not settled, oldest first; their late outcomes count no more."""
        with self._changed:
            self._closed = True
            left = sorted((b for lane in self._lanes.values() for b in lane.batches), key=lambda b: b.sequence)
            for lane in self._lanes.values():
                lane.batches.clear()
                lane.in_flight = None
            self._unsettled.clear()
            self._bytes = 0
            self._changed.notify_all()
            return left

    def records(self, signal: Signal) -> int:
        """How many records of a signal wait or are in flight."""
        with self._changed:
            return sum(batch.records for batch in self._lanes[signal].batches)
