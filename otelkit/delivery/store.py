"""The spool of one signal: the batches that wait on disk for the next hop.

    <spool>/<service>-<digest of service, signal and destination>/      one for all processes that send the same way
        4711-18a3f.../          a process's own; whoever holds the lock on `lock` owns what is beside it
            lock
            000001.segment      frames (frames.py)

A process writes into its own folder alone. The kernel lets go of a dead process's lock, and whoever takes it then, a
process of the same service and destination, takes over the folder: each batch has one owner at any time. A batch is
marked as done when its fate is known; who dies between the answer and the mark has it sent twice, never lost.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from otelkit.delivery import frames, places
from otelkit.delivery.ledger import DropReason, private_directory
from otelkit.delivery.places import Frame, Place, Segment


class Adopted(NamedTuple):
    """What was taken over from dead processes: records that wait, and records that were damaged."""

    waiting: int = 0
    damaged: int = 0


class Store:
    """Keeps batches of one signal on disk, oldest first. Thread-safe.

    `dropped(reason, records, sequence)` is called for each batch that goes without having been sent; it must not call
    back. Methods that write raise OSError where the folder cannot be made, is not this user's alone, or is full.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int,
        max_age_s: float,
        dropped: Callable[[DropReason, int, int], None],
    ) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._max_age_ns = int(max_age_s * 1e9)
        self._dropped = dropped
        self._lock = threading.Lock()
        self._own: Place | None = None
        self._adopted: dict[str, Place] = {}
        self._waiting: deque[Frame] = deque()
        self._newest: dict[int, Frame] = {}
        self._active: Segment | None = None
        self._fd = -1
        self._count = 0
        self._dirty = False
        self._hurried = False

    # -- writing

    def append(self, body: bytes, records: int, *, raw: int, key: int, sequence: int, live: bool = False) -> Frame:
        """Writes a compressed batch down; it waits to be read, unless it is `live` (its owner has it in memory too)."""
        with self._lock:
            written_ns = time.time_ns()
            segment = self._segment()
            before = segment.records
            content = frames.frame(body, records=records, before=before, raw=raw, written_ns=written_ns, key=key)
            self._write(segment, content)
            made = frames.header(content, segment.size)
            assert made is not None
            segment.size += len(content)
            segment.records += records
            segment.unsettled += 1
            self._dirty = True
            frame = Frame(segment, made, sequence)
            if not live:
                self._wait(frame)
            return frame

    def give_back(self, frame: Frame) -> None:
        """Has a batch wait again, in its old place, that was in memory too, or that was read and not sent."""
        with self._lock:
            newest = self._newest.get(frame.header.key)
            if newest is not None and newest.header.written_ns > frame.header.written_ns:
                self._drop(frame, DropReason.SUPERSEDED)
                return
            self._wait(frame)
            if len(self._waiting) > 1 and self._waiting[-2].header.written_ns > frame.header.written_ns:
                self._waiting = deque(sorted(self._waiting, key=_by_age))

    def _wait(self, frame: Frame) -> None:
        if frame.header.key:
            self._supersede(frame.header.key)
            self._newest[frame.header.key] = frame
        self._waiting.append(frame)

    def _segment(self) -> Segment:
        if self._active is not None and self._active.size >= self._segment_bytes:
            self._finish_segment()
        if self._active is None:
            place = self._place()
            self._count += 1
            path = place.path / f"{self._count:06}{places.SUFFIX}"
            self._fd = os.open(path, places.WRITE | os.O_CREAT | os.O_EXCL, 0o600)
            self._active = Segment(path, place)
            place.segments.add(self._active)
        return self._active

    def _finish_segment(self) -> None:
        segment, self._active = self._active, None
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if not self._hurried:
                with contextlib.suppress(OSError):
                    os.fdatasync(fd)
            os.close(fd)
        if segment is not None and not segment.unsettled:
            self._remove_segment(segment)

    def _write(self, segment: Segment, content: bytes) -> None:
        # The header last: who is killed in between leaves no frame. Its ledger has the records in memory, and nobody
        # else shall count them as damaged.
        try:
            for written, end in ((frames.HEADER_BYTES, len(content)), (0, frames.HEADER_BYTES)):
                while written < end:
                    written += os.pwrite(self._fd, content[written:end], segment.size + written)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, segment.size)
            raise

    def _place(self) -> Place:
        if self._own is None:
            private_directory(self.folder.parent)
            private_directory(self.folder)
            self._own = places.make(self.folder)
        return self._own

    def sync(self) -> None:
        """Has the disk keep what was written; to be called by interval."""
        if not self._dirty:
            return
        with self._lock:
            if self._fd < 0:
                return
            self._dirty = False
            os.fdatasync(self._fd)

    # -- reading

    @property
    def waits(self) -> bool:
        """Whether there is a batch to be read."""
        return bool(self._waiting)

    def next(self) -> tuple[Frame, bytes] | None:
        """The oldest batch that waits, and its body, compressed; it waits no more. None where there is none.

        Raises OSError where it cannot be read now: it waits still.
        """
        with self._lock:
            self._expire()
            while self._waiting:
                body = places.body_of(self._waiting[0])
                frame = self._waiting.popleft()
                self._forget(frame)
                if body is not None:
                    return frame, body
                self._drop(frame, DropReason.SPOOL_DAMAGED)
            return None

    def done(self, frame: Frame) -> None:
        """Notes that a batch's fate is known: nobody will send it again."""
        with self._lock:
            self._settle(frame)

    def supersede(self, key: int) -> None:
        """Drops the batch that waits under a number: a later one says all that it says."""
        with self._lock:
            self._supersede(key)

    def expire(self) -> None:
        """Drops what is too old."""
        with self._lock:
            self._expire()

    def drop_oldest(self) -> bool:
        """Drops the oldest segment with all that waits in it; False where nothing waits."""
        with self._lock:
            if not self._waiting:
                return False
            segment = self._waiting[0].segment
            if segment is self._active:
                self._finish_segment()
            for frame in [frame for frame in self._waiting if frame.segment is segment]:
                self._waiting.remove(frame)
                self._forget(frame)
                self._drop(frame, DropReason.SPOOL_FULL)
            self._remove_segment(segment)  # what was read from it is in memory
            return True

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest batch that waits was written."""
        with self._lock:
            return self._waiting[0].header.written_ns if self._waiting else None

    def _expire(self) -> None:
        horizon = time.time_ns() - self._max_age_ns
        while self._waiting and self._waiting[0].header.written_ns < horizon:
            frame = self._waiting.popleft()
            self._forget(frame)
            self._drop(frame, DropReason.EXPIRED)

    def _supersede(self, key: int) -> None:
        older = self._newest.pop(key, None)
        if older is not None:
            self._waiting.remove(older)
            self._drop(older, DropReason.SUPERSEDED)

    def _forget(self, frame: Frame) -> None:
        if self._newest.get(frame.header.key) is frame:
            del self._newest[frame.header.key]

    def _drop(self, frame: Frame, reason: DropReason) -> None:
        self._settle(frame)
        self._dropped(reason, frame.records, frame.sequence)

    def _settle(self, frame: Frame) -> None:
        segment = frame.segment
        if segment.gone:
            return
        with contextlib.suppress(OSError):  # it would be sent twice
            fd = self._fd if segment is self._active else os.open(segment.path, places.WRITE)
            try:
                os.pwrite(fd, frames.DONE, frame.header.offset + frames.STATE_AT)
            finally:
                if fd != self._fd:
                    os.close(fd)
        segment.unsettled -= 1
        if not segment.unsettled and segment is not self._active:
            self._remove_segment(segment)

    def _remove_segment(self, segment: Segment) -> None:
        if segment.gone:
            return
        segment.gone = True
        with contextlib.suppress(OSError):
            segment.path.unlink()
        place = segment.place
        place.segments.discard(segment)
        # The sender may know of a batch's fate after the end: the folder is nobody's then, or another process's.
        if not place.segments and place is not self._own and place.lock >= 0:
            self._adopted.pop(place.path.name, None)
            places.remove(place)

    # -- the spools of the dead

    def adopt(self) -> Adopted:
        """Takes over what processes have left that are dead."""
        with self._lock:
            waiting = damaged = 0
            with contextlib.suppress(OSError):
                for path in places.folders(self.folder):
                    if path.name in self._adopted or (self._own is not None and path == self._own.path):
                        continue
                    place = places.take(path)
                    if place is None:
                        continue
                    found, lost = places.content_of(place)
                    damaged += lost
                    if not found:
                        if places.is_old(path):
                            places.remove(place)
                        else:  # perhaps somebody is making it, and waits for the lock
                            place.let_go()
                        continue
                    self._adopted[path.name] = place
                    waiting += sum(frame.records for frame in found)
                    self._waiting = deque(sorted((*self._waiting, *found), key=_by_age))
            return Adopted(waiting, damaged)

    def drop_superseded(self) -> None:
        """Keeps the newest of batches with the same number, where `adopt` has brought some."""
        with self._lock:
            newest: dict[int, Frame] = {frame.header.key: frame for frame in self._waiting if frame.header.key}
            for frame in [frame for frame in self._waiting if frame.header.key]:
                if newest[frame.header.key] is not frame:
                    self._waiting.remove(frame)
                    self._drop(frame, DropReason.SUPERSEDED)
            self._newest = newest

    # -- the end

    def hurry(self) -> None:
        """Waits for the disk no more: the kernel, which outlives the process, writes through what was written."""
        self._hurried = True

    def close(self) -> None:
        """Lets go of everything: what waits is for the next process."""
        with self._lock:
            self._finish_segment()
            own, self._own = self._own, None
            adopted, self._adopted = self._adopted, {}
            self._waiting.clear()
            self._newest.clear()
            for place in (own, *adopted.values()):
                if place is None:
                    continue
                if place.segments:
                    place.let_go()
                else:
                    places.remove(place)

    def abandon(self) -> None:
        """In a forked child: the files and the locks are the parent's. Takes no lock."""
        fd, self._fd = self._fd, -1
        mine = [place for place in (self._own, *self._adopted.values()) if place is not None]
        self._own = self._active = None
        self._adopted = {}
        self._waiting = deque()
        if fd >= 0:
            os.close(fd)
        for place in mine:
            place.let_go()


def _by_age(frame: Frame) -> int:
    return frame.header.written_ns
