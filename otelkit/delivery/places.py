"""A process's folder in the spool: whose it is, what is in it, and how another process takes it over.

Whoever holds the lock on a folder's `lock` owns what is beside it. The kernel lets go of a dead process's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from otelkit.delivery import frames

SUFFIX = ".segment"
WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = "lock"
_EMPTY_FOR_S = 60.0  # a folder without anything is being made, or its maker has died


@dataclass(eq=False, slots=True)
class Place:
    """A process's folder, and the lock on it; -1 once it is let go of."""

    path: Path
    lock: int
    segments: set[Segment] = field(default_factory=set)

    def let_go(self) -> None:
        """Another process may take it over from here on."""
        lock, self.lock = self.lock, -1
        if lock >= 0:
            os.close(lock)


@dataclass(eq=False, slots=True)
class Segment:
    """A segment file; `unsettled` counts its frames that are not done."""

    path: Path
    place: Place
    size: int = 0
    records: int = 0
    unsettled: int = 0
    gone: bool = False


@dataclass(eq=False, slots=True)
class Frame:
    """One batch on disk; `sequence` is its number in this process's outbox, 0 for one of another process, `delivered`
    what is called when the next hop has acknowledged it.
    """

    segment: Segment
    header: frames.Header
    sequence: int = 0
    delivered: Callable[[], None] | None = None

    @property
    def records(self) -> int:
        """How many records it holds."""
        return self.header.records

    @property
    def is_kept(self) -> bool:
        """Whether it is on disk still."""
        return not self.segment.gone


def folder_name(shown: str, identity: Iterable[str]) -> str:
    """The name of a folder that all processes share which are alike in `identity`."""
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', shown)[:40]}-{digest[:16]}"


def make(folder: Path) -> Place:
    """This process's own folder, locked. Raises OSError where it cannot be made."""
    path = folder / f"{os.getpid()}-{time.time_ns():x}"
    path.mkdir(mode=0o700)
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # Waits for one who took it for a dead process's in this very moment, and who lets go of it at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        os.close(lock)
        raise
    return Place(path, lock)


def folders(folder: Path) -> Iterator[Path]:
    """The folders in a folder, by name; links are none. Raises OSError where it cannot be read."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for name in names:
        yield folder / name


def take(path: Path) -> Place | None:
    """A dead process's folder, locked; None for a living one's, or for somebody else's."""
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if is_old(path):
            with contextlib.suppress(OSError):
                path.rmdir()
        return None
    except OSError:
        return None
    if seized(lock, path / _LOCK):
        return Place(path, lock)
    os.close(lock)
    return None


def seized(fd: int, path: Path) -> bool:
    """Locks a dead process's file, open and found under a path; False for a living one's, somebody else's, or one that
    is gone from there.
    """
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(fd), path.lstat())
    except OSError:
        pass
    return False


def is_old(path: Path) -> bool:
    """Whether nobody can be about to make something of a folder that has nothing in it."""
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > _EMPTY_FOR_S
    return False


def content_of(place: Place) -> tuple[list[Frame], int]:
    """The pending frames of a folder, and how many records are damaged that nobody has counted yet.

    How many were counted stands in a segment's name: whoever takes the folder over next does not count them again.
    """
    found: list[Frame] = []
    damaged = 0
    for path in sorted(place.path.glob(f"*{SUFFIX}")):
        try:
            content = _read(path)
        except OSError:
            continue
        headers, lost = frames.scan(content)
        name, _, counted = path.stem.partition("-")
        if lost > int(counted or 0):
            damaged += lost - int(counted or 0)
            with contextlib.suppress(OSError):
                path = path.rename(path.with_stem(f"{name}-{lost}"))
        segment = Segment(path, place, len(content))
        pending = [Frame(segment, header) for header in headers if not header.done]
        segment.unsettled = len(pending)
        if pending:
            place.segments.add(segment)
            found += pending
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return found, damaged


def _read(path: Path) -> bytes:
    fd = os.open(path, _READ)
    with open(fd, "rb") as file:
        return file.read()


def body_of(frame: Frame) -> bytes | None:
    """A frame's body; None where it is damaged, or gone. Raises OSError where its file cannot be opened now."""
    header = frame.header
    try:
        fd = os.open(frame.segment.path, _READ)
    except FileNotFoundError:
        return None
    try:
        body = os.pread(fd, header.length, header.offset + frames.HEADER_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)
    return body if frames.body_is_whole(header, body) else None


def remove(place: Place) -> None:
    """Removes a folder in which nothing waits; one that has a segment nobody could read stays."""
    with contextlib.suppress(OSError):
        if not any(place.path.glob(f"*{SUFFIX}")):
            (place.path / _LOCK).unlink()
            place.path.rmdir()
    place.let_go()


def remove_forgotten(folder: Path, max_age_s: float) -> int:
    """Removes what dead processes left longer ago than `max_age_s`; returns how many records waited there."""
    lost = 0
    horizon = time.time() - max_age_s
    for path in folders(folder):
        segments = list(path.glob(f"*{SUFFIX}"))
        if not segments or max(each.lstat().st_mtime for each in segments) > horizon:
            continue
        place = take(path)
        if place is None:
            continue
        lost += sum(frame.records for frame in content_of(place)[0])
        for each in segments:
            each.unlink(missing_ok=True)
        remove(place)
    return lost
