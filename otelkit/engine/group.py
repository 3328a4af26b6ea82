"""The processes of one service that report their metrics as one: a folder, a file each, and two locks.

    group             magic and version, counters that all map (see _Header), the group's instance id; its lock is held
                      to join, to leave, and while the numbers of ended processes are put together
    leader            its lock is held by the process that exports for all
    0-4711-1a.series  the series of the process with slot 0 (shared.py); its lock is held as long as the process lives
    ended.series      what those said that have ended, and whose files they were
    admitted          which series are exported as themselves, within the limit of a metric (limiting.py)

All locks are flock's, which the kernel takes from a process that dies, however it dies. A process whose file is named
in ended.series counts as ended once, whoever dies between that file's replacement and the removal of the process's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import mmap
import os
import re
import shutil
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from otelkit.delivery.ledger import private_directory
from otelkit.engine.group_key import GroupKey, namespace, started
from otelkit.engine.limiting import Limiter
from otelkit.engine.locks import lock
from otelkit.engine.merging import Source, fold
from otelkit.engine.publishing import SeriesFile
from otelkit.engine.shared import Entry, Kind, read, write_ended
from otelkit.runtime import guard

logger = logging.getLogger("otelkit.engine")

_MAGIC = b"OTKGRP01"
_GROUP_BYTES = 4096
_ID_AT = 128
_ID = struct.Struct("<H510s")
_SERIES = re.compile(r"(\d+)-(\d+)-[0-9a-f]+\.series")
_FOLDER = re.compile(r"(\d+)-(\d+)-(\d+)-[0-9a-f]+(?:-\d+)?")
_GOES_ON_S = 300.0
"""How long a group may be without a living process and go on when the next one joins: Prometheus looks back as far."""
_FORGOTTEN_S = 86_400.0


_EXPORTED = 3  # where in the header it stands when the group was last exported


def _counter(place: int) -> Any:
    """An attribute of _Header that is one of its cells."""

    def read(header: _Header) -> int:
        return header.cells[place]

    def write(header: _Header, value: int) -> None:
        header.cells[place] = value

    return property(read, write)


class _Header:
    """The counters that the processes of a group share: eight bytes each, written by one process at a time."""

    def __init__(self, cells: memoryview) -> None:
        self.cells = cells

    joined: int = _counter(1)
    """How many processes have joined."""
    together: int = _counter(2)
    """The most that lived at the same time."""
    exported_ns: int = _counter(_EXPORTED)
    """When the group was last exported."""
    asked: int = _counter(4)
    """The number of the last request to export now."""
    answered: int = _counter(5)
    """The last request whose export was acknowledged by the next hop."""


class Member:
    """This process in its group. Not thread-safe.

    Raises OSError where the folder or its files cannot be made or locked, ValueError where they are of another
    version.
    """

    def __init__(self, groups: Path, key: GroupKey, instance_id: str) -> None:
        self._anchor = key.anchor
        self._folder = groups / key.folder
        self._fds: list[int] = []
        self._ended: set[str] = set()
        self._leader: int | None = None
        self.is_leader = False
        private_directory(groups.parent)
        private_directory(groups)
        _sweep(groups, self._folder)
        try:
            self._join(instance_id)
        except BaseException:
            self.abandon()
            raise

    def _join(self, instance_id: str) -> None:
        self._group = self._open_group()
        try:
            self._map = self._begin(instance_id)
            self.header = _Header(memoryview(self._map)[:_ID_AT].cast("Q"))
            length, text = _ID.unpack_from(self._map, _ID_AT)
            self.group_id: str = text[:length].decode()
            self._limiter = Limiter(self._open(self._folder / "admitted"))
            living = {slot for slot, path in self._files() if _locked(path)}
            self.slot = next(slot for slot in range(len(living) + 1) if slot not in living)
            path = self._folder / f"{self.slot}-{os.getpid()}-{time.monotonic_ns():x}.series"
            self._own = self._open(path, os.O_EXCL)
            fcntl.flock(self._own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.path = path
            try:
                self.series = SeriesFile(self._own, self.slot)
            except OSError:
                path.unlink()
                raise
            self.header.joined += 1
            self.header.together = max(self.header.together, len(living) + 1)
        finally:
            fcntl.flock(self._group, fcntl.LOCK_UN)
        self._leader = self._open(self._folder / "leader")

    def _open(self, path: Path, flags: int = 0) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
        self._fds.append(fd)
        return fd

    def _open_group(self) -> int:
        """The group's file, locked; opened again if the folder was removed before the lock was ours."""
        while True:
            private_directory(self._folder)
            path = self._folder / "group"
            fd = self._open(path)
            lock(fd)
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd
            self._fds.remove(fd)
            os.close(fd)

    def _begin(self, instance_id: str) -> mmap.mmap:
        """Maps the group's file; begins it anew if it is new, or if the last process left it long ago."""
        found = os.fstat(self._group)
        if found.st_size:
            with open(self._group, "rb", closefd=False) as file:
                magic = file.read(len(_MAGIC))
            if magic not in (_MAGIC, bytes(len(_MAGIC))):  # zeros: who was making it has died
                raise ValueError(f"{self._folder} belongs to another version of otelkit")
            goes_on = magic == _MAGIC and time.time() - found.st_mtime <= _GOES_ON_S
            if goes_on or any(_locked(path) for _, path in self._files()):
                return mmap.mmap(self._group, _GROUP_BYTES)
            for _, path in self._files():
                path.unlink(missing_ok=True)
            for name in ("ended.series", "admitted"):
                (self._folder / name).unlink(missing_ok=True)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._group, 0, _GROUP_BYTES)
        else:
            os.ftruncate(self._group, _GROUP_BYTES)
        mapped = mmap.mmap(self._group, _GROUP_BYTES)
        text = instance_id.encode("utf-8", "replace")[:510]
        mapped[:] = bytes(_GROUP_BYTES)
        _ID.pack_into(mapped, _ID_AT, len(text), text)
        struct.pack_into("<Q", mapped, 8 * _EXPORTED, time.time_ns())  # the first interval begins
        mapped[: len(_MAGIC)] = _MAGIC
        return mapped

    def _files(self) -> Iterator[tuple[int, Path]]:
        """The processes' files, with their slots."""
        for name in os.listdir(self._folder):
            matched = _SERIES.fullmatch(name)
            if matched is not None:
                yield int(matched[1]), self._folder / name

    # -- among the others

    @property
    def alone(self) -> bool:
        """Whether no other process has ever joined."""
        return self.header.joined == 1

    def accompanied(self) -> bool:
        """Whether another process of the group lives now."""
        with self._locked():  # a look at a file that is being made would keep its maker from locking it
            return self._others()

    def _others(self) -> bool:
        return any(path != self.path and _locked(path) for _, path in self._files())

    @property
    def slots(self) -> bool:
        """Whether more than one process has lived at the same time, so that gauges need a slot."""
        return self.header.together > 1

    def leads(self) -> bool:
        """Whether this process exports for all: the first that asks, until it leaves."""
        if not self.is_leader and self._leader is not None:
            try:
                fcntl.flock(self._leader, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.is_leader = True
            except OSError:
                return False
        return self.is_leader

    def ask(self) -> int:
        """Asks whoever leads to export now; returns the request's number."""
        with self._locked():
            self.header.asked += 1
            return self.header.asked

    def sources(self) -> list[Source]:
        """What all processes of the group say, and those that have ended."""
        with self._locked():  # else another one may put ended processes together between one look and the next
            found = self._sources()
        return self._limiter.limited(found)

    def _sources(self) -> list[Source]:
        kept = _said(self._folder / "ended.series")
        counted = _names(kept)
        found = [Source(kept, None)]
        self._ended = ended = set()
        for slot, path in sorted(self._files()):
            if path.name not in counted:
                living = path == self.path or _locked(path)
                if not living:
                    ended.add(path.name)
                # Read after the look at the lock: what was written before it was let go is there.
                found.append(Source(_said(path), slot if living else None))
        return found

    def fold(self) -> None:
        """Puts the numbers of ended processes together into one file, of those that `sources` has told of as ended: who
        has died since is first to be exported as such. Only who leads may.
        """
        with self._locked():
            self._fold()

    def _fold(self) -> None:
        ended = self._folder / "ended.series"
        kept = _said(ended)
        counted = _names(kept)
        known = counted | self._ended
        gone = [path for _, path in self._files() if path.name in known and not _locked(path)]
        fresh = [path for path in gone if path.name not in counted]
        if fresh:
            sources = [Source(kept, None), *(Source(_said(path), None) for path in fresh)]
            write_ended(ended, fold(self._limiter.limited(sources)), [path.name for path in gone])
        for path in gone:
            path.unlink(missing_ok=True)

    def touch(self) -> None:
        """Notes that the group lives; for the next process to join after everybody has left."""
        os.utime(self._group)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock(self._group)
        try:
            yield
        finally:
            fcntl.flock(self._group, fcntl.LOCK_UN)

    # -- its end

    def leave(self) -> bool:
        """Ends this process's part; True for the last of the group, which exports what all have said.

        `sources` still takes this process for a living one, so that the last export has its gauges.
        """
        with self._locked():
            others = self._others()
            self.touch()
            self.series.close()
            fcntl.flock(self._own, fcntl.LOCK_UN)
            return not others

    def remove(self) -> None:
        """Removes the group where nobody can follow: all have left, and who started them is gone, or this process."""
        if self._anchor not in (os.getpid(), 0) and started(self._anchor):
            return
        with self._locked():
            if not any(_locked(path) for _, path in self._files()):
                shutil.rmtree(self._folder, ignore_errors=True)

    def abandon(self) -> None:
        """Closes all files; in a forked child they are the parent's."""
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)
        self._leader = None
        self.is_leader = False


def _said(path: Path) -> list[Entry]:
    """What a file says; nothing where there is none, or where it is damaged: the others' numbers count all the same."""
    try:
        return read(path)
    except FileNotFoundError:
        return []
    except (ValueError, struct.error):
        guard.report(f"the metrics in {path.name}")
        return []


def _names(kept: Iterable[Entry]) -> set[str]:
    for entry in kept:
        if entry.kind is Kind.ENDED:
            return set(json.loads(entry.key))
    return set()


def _locked(path: Path) -> bool:
    """Whether a living process holds a file's lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


def _sweep(groups: Path, own: Path) -> None:
    """Removes the folders of groups that nobody can join any more."""
    for name in os.listdir(groups):
        matched = _FOLDER.fullmatch(name)
        path = groups / name
        if matched is None or path == own:
            continue
        space, pid, began = map(int, matched.groups())
        with contextlib.suppress(OSError):
            if space == namespace():
                gone = started(pid) != began or not began
            else:
                gone = time.time() - path.stat().st_mtime > _FORGOTTEN_S
            if gone and not any(_locked(file) for file in path.glob("*.series")):
                shutil.rmtree(path)
