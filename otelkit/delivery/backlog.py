"""What is encoded and not acknowledged: in memory (outbox.py) and on disk (spool.py), and the ways between the two."""

from __future__ import annotations

import time

from otelkit.delivery.ledger import DropReason, Ledger
from otelkit.delivery.outbox import Batch, Outbox
from otelkit.delivery.spool import Spool
from otelkit.runtime import guard


class Backlog:
    """Decides where a batch waits: in memory alone where `spool` is None. The worker's, but for `end`."""

    def __init__(self, outbox: Outbox, spool: Spool | None, ledger: Ledger) -> None:
        self._outbox = outbox
        self._spool = spool
        self._ledger = ledger
        self.leaves = False

    def offer(self, batch: Batch, *, closing: bool) -> None:
        """Takes in a batch that was just encoded; it is the spool's first where every batch shall be."""
        spool = self._spool
        if spool is not None:
            with guard.guarded("the spool"):
                spool.supersede(batch)
                if spool.always:
                    spool.keep(batch, live=True)

        def evict(old: Batch, reason: DropReason) -> None:
            self._drop(old, DropReason.SHUTDOWN if closing and reason is DropReason.PENDING_FULL else reason)

        gone = self._outbox.offer(batch, evict)
        if batch.frame is not None:
            batch.frame.sequence = batch.sequence
        for old in gone:
            if spool is not None and old.frame is not None:
                spool.settled(old.signal, old.frame)

    @property
    def moves(self) -> bool:
        """Whether `move` may have something to do."""
        return self._spool is not None and (self._outbox.overflows or self._spool.waits)

    def move(self) -> None:
        """Takes to the disk what cannot be sent, and reads back what can be tried again."""
        spool = self._spool
        if spool is None:
            return
        with guard.guarded("the spool"):
            for batch in self._outbox.spill(spool.takes):
                if not spool.keep(batch):
                    self._outbox.put_back(batch)
            for signal in spool.signals:
                while spool.waits_for(signal) and self._outbox.wants(signal):
                    recalled = spool.recall(signal)
                    if recalled is None or not self._outbox.recall(recalled):
                        break

    def tend(self) -> None:
        """Does what the clock asks of the spool; called about once a second."""
        if self._spool is not None:
            with guard.guarded("the spool"):
                self._spool.tick()

    @property
    def keeps(self) -> bool:
        """Whether the disk takes what cannot be sent, of some signal."""
        return self._spool is not None and any(map(self._spool.takes, self._spool.signals))

    def leave(self) -> None:
        """The process will end: what waits shall be on disk by then."""
        self.leaves = True
        self._outbox.leave()
        self.move()

    def end(self, deadline: float) -> None:
        """Leaves on disk what is not acknowledged, for the next process; drops it where that cannot be. After
        `deadline` (monotonic) the disk is not waited for.
        """
        if self._spool is not None and time.monotonic() >= deadline:
            self._spool.hurry()
        for batch in self._outbox.close():
            if self._spool is None or not self._spool.keep(batch):
                self._drop(batch, DropReason.SHUTDOWN)
        if self._spool is not None:
            self._spool.close()

    def _drop(self, batch: Batch, reason: DropReason) -> None:
        self._ledger.signals[batch.signal].settle(batch.ended(reason), spooled=batch.frame is not None)
