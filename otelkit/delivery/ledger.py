"""The ledger: what was accepted, delivered, spooled and dropped, exact, in a small memory-mapped page of the process.

Contract (per signal, at every quiescent point): accepted = delivered + spooled + in memory + the sum of dropped by
reason. The page lives in a file, so that its counters survive SIGKILL and `otelkit status --pid N` reads them without
a signal or a port.

`cells[i] += n` on a memoryview takes no lock: between the load and the store there is no call of Python code and no
backward jump, the only places where CPython 3.10 to 3.13 hand the interpreter over (facts: nothing lost in 8 threads).
A free-threaded build has no such rule: there `add` takes the signal's lock.
"""

from __future__ import annotations

import enum
import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from otelkit.config.settings import SIGNALS, Signal
from otelkit.runtime.interpreter import FREE_THREADED

MAGIC = b"OTELKIT1"
_HEADER = struct.Struct("<8sQQ128s")  # magic, pid, start of the page (ns since the epoch), service name
_HEADER_BYTES = 256
_CELLS_A_SIGNAL = 32  # accepted, delivered, spooled, then one cell a drop reason; the last: truncated, adopted
_PAGE_BYTES = _HEADER_BYTES + 8 * _CELLS_A_SIGNAL * len(SIGNALS)
_ACCEPTED, _DELIVERED, _SPOOLED, _FIRST_REASON = 0, 1, 2, 3
_ADOPTED = _CELLS_A_SIGNAL - 1
_TRUNCATED = _CELLS_A_SIGNAL - 2


class DropReason(enum.Enum):
    """Why a record was not delivered; the value is the metric's label. Their order is the page's: only ever append."""

    QUEUE_FULL = "queue_full"
    """The signal's queue held its most records (OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BLRP_MAX_QUEUE_SIZE) or bytes
    (OTELKIT_MAX_QUEUE_BYTES).
    """
    ENCODE_FAILED = "encode_failed"
    """The record could not be written as OTLP."""
    PENDING_FULL = "pending_full"
    """More bytes waited for the next hop than OTELKIT_MAX_PENDING_BYTES; the oldest batch went."""
    REFUSED = "refused"
    """The next hop answered with a status that says a repetition would be answered alike (400, 401, 404, a redirect,
    …).
    """
    TOO_LARGE = "too_large"
    """The next hop answered 413 to a request that held this record alone."""
    REJECTED = "rejected"
    """The next hop took the request but not these records (OTLP's partial_success)."""
    SHUTDOWN = "shutdown"
    """Still undelivered at the end of the process, and not on disk: the spool was off or could not be written, or the
    processors had no time for OTELKIT_SHUTDOWN_TIMEOUT_S and 8 s.
    """
    AFTER_SHUTDOWN = "after_shutdown"
    """Emitted after shutdown."""
    SPOOL_FULL = "spool_full"
    """The spool held its most bytes (OTELKIT_SPOOL_MAX_BYTES, or a tenth of the free disk); the oldest batches went."""
    SPOOL_DAMAGED = "spool_damaged"
    """What the spool held was cut off, or its bits have changed."""
    EXPIRED = "expired"
    """It waited in the spool for longer than OTELKIT_SPOOL_MAX_AGE_S, or OTELKIT_SPOOL_MAX_METRIC_AGE_S."""
    SUPERSEDED = "superseded"
    """A later cumulative point of the same series says all that it would have said."""


_REASONS = tuple(DropReason)


@dataclass(frozen=True, slots=True)
class Account:
    """One signal's line of the ledger, in records.

    `adopted` says how many of the accepted were another process's, which died and left them in its spool; `truncated`
    how many values were cut (caps.py).
    """

    accepted: int = 0
    delivered: int = 0
    spooled: int = 0
    dropped: Mapping[DropReason, int] = field(default_factory=dict)
    adopted: int = 0
    truncated: int = 0

    @property
    def outstanding(self) -> int:
        """What is accounted for nowhere else: in memory, or in a process that was killed, lost."""
        return self.accepted - self.delivered - self.spooled - sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """A ledger as it was read from a page."""

    pid: int
    started_ns: int
    service: str
    accounts: Mapping[Signal, Account]

    @property
    def outstanding(self) -> int:
        """Records of all signals that no other column accounts for."""
        return sum(account.outstanding for account in self.accounts.values())

    @property
    def lost(self) -> int:
        """Records of all signals that were dropped, those aside whose place a later one has taken."""
        return sum(
            count
            for account in self.accounts.values()
            for reason, count in account.dropped.items()
            if reason is not DropReason.SUPERSEDED
        )


class SignalCells:
    """The cells of one signal; the attributes are indices, for `add`, and for `cells[i] += 1` in the hot path where
    `lock` is None.
    """

    __slots__ = ("_reasons", "accepted", "adopted", "cells", "delivered", "lock", "spooled", "truncated")

    def __init__(self, cells: memoryview, signal: Signal) -> None:
        start = SIGNALS.index(signal) * _CELLS_A_SIGNAL
        self.use(cells)
        self.accepted = start + _ACCEPTED
        self.delivered = start + _DELIVERED
        self.spooled = start + _SPOOLED
        self.adopted = start + _ADOPTED
        self.truncated = start + _TRUNCATED
        self._reasons = {reason: start + _FIRST_REASON + place for place, reason in enumerate(_REASONS)}

    def use(self, cells: memoryview) -> None:
        """Counts there from now on; in a forked child with a lock that no thread of its parent's can have held."""
        self.lock = threading.Lock() if FREE_THREADED else None
        self.cells = cells

    def add(self, cell: int, records: int) -> None:
        """Adds to one cell, whose index is given. Nothing is called within the lock (cells.py of the engine)."""
        if self.lock is None:
            self.cells[cell] += records
        else:
            with self.lock:
                self.cells[cell] += records

    def dropped(self, reason: DropReason) -> int:
        """The index of a drop reason's cell."""
        return self._reasons[reason]

    def drop(self, reason: DropReason, records: int, *, spooled: bool = False) -> None:
        """Counts records that will not be delivered; `spooled`: they were counted as on disk until now."""
        if spooled:
            self.add(self.spooled, -records)
        self.add(self._reasons[reason], records)

    def settle(self, fates: Mapping[DropReason | None, int], *, spooled: bool) -> None:
        """Counts what has become of a batch: records by the reason that they were dropped for, None: delivered."""
        if spooled:
            self.add(self.spooled, -sum(fates.values()))
        for reason, records in fates.items():
            self.add(self.delivered if reason is None else self._reasons[reason], records)


class Ledger:
    """The ledger of this process.

    `directory` is where the page's file goes (0700, the file 0600); where it cannot be made the page is in memory
    alone and `file_error` says why. The page is made by `open_page`, at the process's first record, and removed by
    `close`.
    """

    def __init__(self, directory: Path, service: str) -> None:
        self._directory = directory
        self._service = service
        self._map = mmap.mmap(-1, _PAGE_BYTES)
        self._fd: int | None = None
        self.path: Path | None = None
        self.file_error: OSError | None = None
        self.started_ns = time.time_ns()
        self._cells = self._view()
        self.signals: Mapping[Signal, SignalCells] = {signal: SignalCells(self._cells, signal) for signal in SIGNALS}

    def _view(self) -> memoryview:
        return memoryview(self._map)[_HEADER_BYTES:].cast("Q")

    def open_page(self) -> None:
        """Moves the counters into a mapped file; call it before the first record is counted."""
        if self._fd is not None or self.file_error is not None:
            return
        try:
            private_directory(self._directory)
            self.path = self._directory / f"{os.getpid()}-{self.started_ns}.ledger"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
            # Held as long as the process lives: who finds the page unlocked knows that its process is gone.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if hasattr(os, "posix_fallocate"):
                # A full disk shows here, and not as SIGBUS at the first count.
                os.posix_fallocate(self._fd, 0, _PAGE_BYTES)
            else:
                os.ftruncate(self._fd, _PAGE_BYTES)
            mapped = mmap.mmap(self._fd, _PAGE_BYTES)
        except OSError as error:
            self.file_error = error
            if self._fd is not None and self.path is not None:
                self.path.unlink(missing_ok=True)
            self._close_fd()
            self.path = None
            return
        service = self._service.encode("utf-8", "replace")[:127]
        mapped[: _HEADER.size] = _HEADER.pack(MAGIC, os.getpid(), self.started_ns, service)
        counted = self._cells
        self._use(mapped)
        for place, count in enumerate(counted.tolist()):  # last: a finalizer may have recorded until now
            self._cells[place] += count

    def _use(self, page: mmap.mmap) -> None:
        self._map = page
        self._cells = self._view()
        for cells in self.signals.values():
            cells.use(self._cells)

    def read(self) -> LedgerPage:
        """The counters as they stand."""
        return LedgerPage(os.getpid(), self.started_ns, self._service, _accounts(self._cells))

    def close(self) -> None:
        """Removes the page's file; the counters stay readable in this process."""
        path, self.path = self.path, None
        if path is not None:
            path.unlink(missing_ok=True)
        self._close_fd()

    def forget(self) -> None:
        """In a forked child: lets go of the parent's file and memory; what is still counted here counts nowhere."""
        self.path = None
        self._close_fd()
        self._use(mmap.mmap(-1, _PAGE_BYTES))

    def _close_fd(self) -> None:
        fd, self._fd = self._fd, None  # first: two threads may end the process at once
        if fd is not None:
            os.close(fd)


def _accounts(cells: memoryview) -> Mapping[Signal, Account]:
    accounts: dict[Signal, Account] = {}
    for place, signal in enumerate(SIGNALS):
        row = cells[place * _CELLS_A_SIGNAL : (place + 1) * _CELLS_A_SIGNAL].tolist()
        dropped = {reason: row[_FIRST_REASON + index] for index, reason in enumerate(_REASONS)}
        accounts[signal] = Account(
            row[_ACCEPTED],
            row[_DELIVERED],
            row[_SPOOLED],
            {reason: count for reason, count in dropped.items() if count},
            row[_ADOPTED],
            row[_TRUNCATED],
        )
    return accounts


def private_directory(directory: Path) -> None:
    """Makes a folder that only this user may enter; one that is there keeps its mode.

    Raises OSError where it is a symbolic link, belongs to someone else, or others may write into it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if directory.is_symlink() or found.st_uid != os.geteuid():
        raise PermissionError(f"{directory} is not a folder of this user's own")
    if found.st_mode & 0o022:
        raise PermissionError(f"{directory} is a folder that others may write into")


def read_page(path: Path) -> LedgerPage:
    """Reads a process's page.

    Raises ValueError for a file that is no page, OSError where it cannot be read.
    """
    content = path.read_bytes()
    if len(content) != _PAGE_BYTES or content[:8] != MAGIC:
        raise ValueError(f"{path} is not a ledger page of this version")
    _, pid, started_ns, service = _HEADER.unpack_from(content)
    cells = memoryview(content)[_HEADER_BYTES:].cast("Q")
    return LedgerPage(pid, started_ns, service.rstrip(b"\0").decode("utf-8", "replace"), _accounts(cells))


def pages(directory: Path) -> Iterator[tuple[Path, LedgerPage]]:
    """Every readable page in a folder, oldest first."""
    found = []
    for path in directory.glob("*.ledger"):
        try:  # its process may end, and remove it, at any moment
            found.append((path.stat().st_mtime, path, read_page(path)))
        except (OSError, ValueError):
            continue
    for _, path, page in sorted(found, key=lambda entry: entry[:2]):
        yield path, page


def take_dead_pages(directory: Path) -> Iterator[LedgerPage]:
    """Reads and removes the pages of processes that ended without closing theirs; each page is taken by one process
    only, and removed when the next one is asked for: who is killed before it has told of a page leaves it.
    """
    for path, _ in pages(directory):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield read_page(path)
            path.unlink()
        except (OSError, ValueError):
            continue
        finally:
            os.close(fd)
