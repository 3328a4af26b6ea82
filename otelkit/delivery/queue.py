"""The bounded queue of one signal: the end of the hot path and the beginning of the worker's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from otelkit.delivery.caps import Caps, Heavy
from otelkit.delivery.ledger import DropReason, SignalCells
from otelkit.runtime import guard

R = TypeVar("R")


class QueueLimits(NamedTuple):
    """The bounds of a queue: records in it, records of a batch, the longest wait for a batch in seconds, the bytes of
    the heavy records in it (a light one has 16 KiB at most), and what one record may weigh.
    """

    max_records: int
    max_batch: int
    delay_s: float
    max_bytes: int = 32 * 1024 * 1024
    caps: Caps = Caps()


class SignalQueue(Generic[R]):
    """Takes records of any thread without a lock and without waiting.

    `deque.append`, `popleft` and `len` are atomic, and so are the ledger's cells under the interpreter's lock; a
    free-threaded build takes the ledger's for what is added up (ledger.py). The bound may be passed by as many records
    as threads emit at the same instant. `start` is called for the first record of the process, `wake` when a batch is
    full. `weigh` returns None for a light record.
    The flight recorder is told of each record (`note`), and of those that are dropped (`release`).
    """

    __slots__ = (
        "_account",
        "_batch",
        "_bytes",
        "_full",
        "_late",
        "_most",
        "_note",
        "_release",
        "_start",
        "_wake",
        "_weigh",
        "_weights",
        "closed",
        "limits",
        "records",
        "started",
    )

    def __init__(
        self,
        account: SignalCells,
        limits: QueueLimits,
        *,
        weigh: Callable[[R], Heavy[R] | None],
        note: Callable[[R], None] | None = None,
        release: Callable[[Sequence[R]], None] | None = None,
        start: Callable[[], object],
        wake: Callable[[], None],
    ) -> None:
        self.records: deque[R] = deque()
        self.limits = limits
        self._most = limits.max_records
        self._batch = limits.max_batch
        self.started = False
        self.closed = False
        self._account = account
        self._full = account.dropped(DropReason.QUEUE_FULL)
        self._late = account.dropped(DropReason.AFTER_SHUTDOWN)
        self._start = start
        self._wake = wake
        self._weigh = weigh
        self._note = note
        self._release = release
        self._bytes = 0
        self._weights: dict[int, int] = {}  # of the heavy records in the queue, by id

    def put(self, record: R) -> None:
        """Takes a record in, or counts why not. Never blocks after the process's first record, never raises."""
        if not self.started:
            self._start()
        account = self._account
        if account.lock is None:
            account.cells[account.accepted] += 1
        else:
            account.add(account.accepted, 1)
        if self._note is not None:
            self._note(record)
        records = self.records
        length = len(records)
        if self.closed or length >= self._most:
            self._refuse(record, self._late if self.closed else self._full)
            return
        try:
            heavy = self._weigh(record)
        except Exception:  # noqa: BLE001 - what cannot be read is the encoder's to refuse
            guard.report("the weighing of a record")
            heavy = None
        if heavy is not None:
            if self._bytes + heavy.bytes > self.limits.max_bytes:
                self._refuse(record, self._full)
                return
            record = heavy.record
            account.add(account.truncated, heavy.cut)
            self._weights[id(record)] = heavy.bytes
            self._use(heavy.bytes)
        records.append(record)
        if length + 1 == self._batch:
            self._wake()
        if self.closed:  # shutdown's last sweep may have passed between the check and the append
            self.sweep()

    def _use(self, size: int) -> None:
        lock = self._account.lock
        if lock is None:
            self._bytes += size
        else:
            with lock:
                self._bytes += size

    def _refuse(self, record: R, cell: int) -> None:
        self._account.add(cell, 1)
        if self._release is not None:
            self._release((record,))

    def take(self) -> list[R]:
        """Up to one batch of the oldest records; the worker's side."""
        records = self.records
        batch: list[R] = []
        try:
            for _ in range(min(len(records), self._batch)):
                batch.append(records.popleft())  # noqa: PERF401 - what was popped before an IndexError must not be lost
        except IndexError:  # shutdown's sweep was faster
            pass
        if self._weights:
            for record in batch:
                weight = self._weights.pop(id(record), 0)
                if weight:
                    self._use(-weight)
        return batch

    def sweep(self) -> None:
        """Counts what nobody will take any more as dropped by shutdown."""
        cell = self._account.dropped(DropReason.SHUTDOWN)
        while True:
            try:
                self.records.popleft()
            except IndexError:
                return
            self._account.add(cell, 1)
