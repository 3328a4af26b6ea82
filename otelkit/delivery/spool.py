"""The spool: where encoded batches wait on disk while the next hop does not take them, and after the process's end.

The worker writes and reads; the sender notes what has become of a batch. Off, or where the disk is full, batches wait
in memory as they would without it.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from otelkit.config.settings import Signal
from otelkit.delivery import places
from otelkit.delivery.compression import compressed, compression_of, decompressed
from otelkit.delivery.destination import Destination
from otelkit.delivery.ledger import DropReason, Ledger
from otelkit.delivery.outbox import Batch
from otelkit.delivery.places import Frame
from otelkit.delivery.store import Store
from otelkit.runtime.selflog import Throttle

logger = logging.getLogger("otelkit.delivery")

_SEGMENT_BYTES = 4 * 1024 * 1024
_SEGMENTS_AT_LEAST = 8  # so that a small spool, too, loses its oldest part and not everything
_FREE_SHARE = 10  # at most a tenth of what is free
_LOOK_AGAIN_S = 5.0  # at the disk's room, and for the spools of the dead
_BROKEN_S = 30.0
_SWEEP_S = 3600.0


class SpoolOptions(NamedTuple):
    """How batches are kept; times in seconds. `always`: every batch is written before it is sent."""

    folder: Path
    always: bool = False
    max_bytes: int = 512 * 1024 * 1024
    max_age_s: float = 86_400.0
    max_metric_age_s: float = 1_500.0
    fsync_s: float = 1.0


class Spool:
    """The stores of all signals of a process. Thread-safe.

    `identity` is what makes two processes one service; `discard(sequence)` tells the outbox that a batch is gone.
    A signal that goes to the default address, which nobody named, is kept only after somebody has answered there: on a
    developer's machine without a collector nothing piles up.
    """

    def __init__(
        self,
        options: SpoolOptions,
        destinations: Mapping[Signal, Destination],
        identity: tuple[str, ...],
        ledger: Ledger,
        discard: Callable[[int], None],
    ) -> None:
        self._options = options
        self._destinations = destinations
        self._ledger = ledger
        self._discard = discard
        self._stores = {signal: self._store(found, identity) for signal, found in destinations.items()}
        self._answered = {signal for signal, found in destinations.items() if not found.by_default}
        self._used = 0
        self._cap = 0
        self._next_look = 0.0
        self._next_adoption = 0.0
        self._next_sync = 0.0
        self._next_sweep = 0.0
        self._broken_until = 0.0
        self._throttle = Throttle()
        self.failure: str | None = None

    def _store(self, destination: Destination, identity: tuple[str, ...]) -> Store:
        options, signal = self._options, destination.signal
        name = places.folder_name(identity[0], (*identity, signal, destination.protocol, destination.shown))
        account = self._ledger.signals[signal]

        def dropped(reason: DropReason, records: int, sequence: int) -> None:
            account.drop(reason, records, spooled=True)
            if sequence:
                self._discard(sequence)

        return Store(
            options.folder / name,
            segment_bytes=min(_SEGMENT_BYTES, options.max_bytes // _SEGMENTS_AT_LEAST),
            max_age_s=options.max_metric_age_s if signal == "metrics" else options.max_age_s,
            dropped=dropped,
        )

    @property
    def signals(self) -> Iterable[Signal]:
        """Those that are exported."""
        return self._stores

    @property
    def always(self) -> bool:
        """Whether every batch is written before it is sent."""
        return self._options.always

    def answered(self, signal: Signal) -> None:
        """Somebody is there who takes this signal."""
        self._answered.add(signal)

    def takes(self, signal: Signal) -> bool:
        """Whether batches of this signal can be kept now."""
        return signal in self._answered and time.monotonic() >= self._broken_until

    @property
    def waits(self) -> bool:
        """Whether a batch is on disk and nowhere else."""
        return any(store.waits for store in self._stores.values())

    def waits_for(self, signal: Signal) -> bool:
        """Whether a batch of this signal is."""
        return self._stores[signal].waits

    # -- in and out

    def keep(self, batch: Batch, *, live: bool = False) -> bool:
        """Writes a batch down, with what it was in memory for (`live`: it stays there too); False where that cannot
        be done now.
        """
        signal = batch.signal
        store = self._stores[signal]
        if batch.frame is not None and batch.frame.is_kept:
            store.give_back(batch.frame)
            return True
        if not self.takes(signal):
            return False
        body = batch.body if compression_of(batch.body) != "none" else compressed(batch.body)
        try:
            self._make_room(len(body))
            frame = store.append(
                body, batch.records, raw=batch.raw, key=batch.key, sequence=batch.sequence, live=live
            )  # fmt: skip
        except OSError as error:
            self._fail(error)
            return False
        frame.delivered = batch.delivered
        self._used += len(body)
        if batch.frame is None:
            account = self._ledger.signals[signal]
            account.add(account.spooled, batch.records)
        batch.frame = frame
        self.failure = None
        return True

    def recall(self, signal: Signal) -> Batch | None:
        """The oldest batch that waits on disk, as it is sent; None where there is none, or none can be read now."""
        try:
            found = self._stores[signal].next()
        except OSError as error:
            self._fail(error)
            return None
        if found is None:
            return None
        frame, body = found
        if self._destinations[signal].body_compression == "none":
            body = decompressed(body)
        return Batch(
            signal, body, frame.records, frame.sequence, frame.delivered, raw=frame.header.raw, key=frame.header.key,
            frame=frame,
        )  # fmt: skip

    def settled(self, signal: Signal, frame: Frame) -> None:
        """Nobody shall send a batch again; the ledger was told before."""
        self._stores[signal].done(frame)

    def supersede(self, batch: Batch) -> None:
        """A batch says all that the one says that waits under the same number."""
        if batch.key:
            self._stores[batch.signal].supersede(batch.key)

    # -- by the clock

    def tick(self) -> None:
        """Does what is due: writes through to the disk, drops what is too old, takes over what the dead have left."""
        now = time.monotonic()
        if now >= self._next_sync:
            self._next_sync = now + self._options.fsync_s
            for store in self._stores.values():
                try:
                    store.sync()
                except OSError as error:
                    self._fail(error)
        if now >= self._next_adoption:
            self._next_adoption = now + _LOOK_AGAIN_S
            for signal in self._answered & set(self._stores):
                self._stores[signal].expire()
                self._adopt(signal)
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP_S
            self._sweep()

    def _sweep(self) -> None:
        """Removes what nobody adopts any more: of a service that was renamed, or sends elsewhere now."""
        own = {store.folder for store in self._stores.values()}
        try:
            others = [folder for folder in places.folders(self._options.folder) if folder not in own]
            for folder in others:
                lost = places.remove_forgotten(folder, self._options.max_age_s)
                if lost:
                    logger.warning("%d records in the spool %s were too old, and are lost", lost, folder.name)
                if not any(folder.iterdir()):
                    folder.rmdir()
        except OSError:  # there is no spool yet, or another process sweeps at the same time
            return

    def _adopt(self, signal: Signal) -> None:
        found = self._stores[signal].adopt()
        account = self._ledger.signals[signal]
        account.add(account.accepted, found.waiting + found.damaged)
        account.add(account.adopted, found.waiting + found.damaged)
        account.add(account.spooled, found.waiting)
        account.drop(DropReason.SPOOL_DAMAGED, found.damaged)
        self._stores[signal].drop_superseded()  # counted as dropped, and so only after they were counted as accepted
        if found.waiting:
            logger.info("%d %s that an ended process left in the spool are sent now", found.waiting, signal)
        if found.damaged:
            logger.warning("%d %s in the spool of an ended process are damaged, and lost", found.damaged, signal)

    def _make_room(self, size: int) -> None:
        """Drops the oldest until there is room. Raises OSError where there is none."""
        now = time.monotonic()
        if now >= self._next_look:
            self._look(now)
        while self._used + size > self._cap:
            self._look(now)
            if self._used + size <= self._cap:
                return
            waiting = [(oldest, store) for store in self._stores.values() if (oldest := store.oldest_ns) is not None]
            if not waiting:
                raise OSError(errno.ENOSPC, "the spool holds its most bytes, of other processes")
            min(waiting, key=lambda found: found[0])[1].drop_oldest()

    def _look(self, now: float) -> None:
        self._next_look = now + _LOOK_AGAIN_S
        folder = self._options.folder
        self._used = _size(folder)
        there = folder
        while not there.exists():
            there = there.parent
        found = os.statvfs(there)
        self._cap = min(self._options.max_bytes, (found.f_bavail * found.f_frsize + self._used) // _FREE_SHARE)

    def _fail(self, error: OSError) -> None:
        self.failure = str(error)
        self._broken_until = time.monotonic() + _BROKEN_S
        held_back = self._throttle.admit("spool")
        if held_back is not None:
            logger.warning(
                "batches cannot be kept on disk (%s); what is undelivered waits in memory, up to"
                " OTELKIT_MAX_PENDING_BYTES, and ends with the process",
                error,
            )

    def describe(self) -> dict[str, object]:
        """Where it is, and what keeps it from being written."""
        return {"folder": str(self._options.folder), "always": self.always, "failure": self.failure}

    # -- the end

    def hurry(self) -> None:
        """The process's time is over: what is written from now on is not waited for on its way to the disk."""
        for store in self._stores.values():
            store.hurry()

    def close(self) -> None:
        """Lets go of everything; what waits is for the next process."""
        for store in self._stores.values():
            store.close()

    def abandon(self) -> None:
        """In a forked child: the files are the parent's."""
        for store in self._stores.values():
            store.abandon()


def _size(folder: Path) -> int:
    """The bytes of all files below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    waiting: list[str] = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                found: Iterable[os.DirEntry[str]] = list(entries)
        except OSError:
            continue
        for entry in found:
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue
    return total
