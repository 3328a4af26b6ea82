"""The flight recorder: notes which spans are in flight, and what has not reached the spool, where SIGKILL cannot take
it.

A memory-mapped file a process (ring.py): the kernel keeps what was written into it, however the process ends. The
application's thread writes a span's identity and those attributes that are encoded already; what the span has of its
own is added by the worker, at its next turn. Another process reads it (recovery.py).
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import mmap
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from otelkit.delivery import ring
from otelkit.delivery.attributes import AttributeEncoder
from otelkit.delivery.causes import boot_id, oom_kills
from otelkit.delivery.encode import SPAN_ATTRIBUTE
from otelkit.delivery.ledger import private_directory
from otelkit.delivery.options import RecorderOptions

RING, CRASH = ".ring", ".crash"
_FEW = ring.SLOTS // 8
_FORGOTTEN_NS = 600 * 10**9  # a span that is open for longer gives its slot up where slots are few
_REDACTED = b"[REDACTED]"

_write = ring.SLOT.pack_into
_write_end = ring.END.pack_into
_write_time = struct.Struct("<Q").pack_into
_write_length = struct.Struct("<I").pack_into
_read_number = struct.Struct("<Q").unpack_from


class Recorder:
    """One process's ring. `began`, `ended`, `log` and `release` take no lock and never raise.

    The file is made by the first span or record after `arm`, and `start` called then; where it cannot be made, nothing
    is noted and `failure` says why. A record that is noted has a `slot`, the place of its slot in the file.
    """

    def __init__(self, options: RecorderOptions, started_ns: int, start: Callable[[], object]) -> None:
        self._options = options
        self._started_ns = started_ns
        self._start = start
        self._redaction = options.redaction
        self._attributes = AttributeEncoder(options.redaction)
        self._lock = threading.RLock()  # a finalizer may record while this thread makes the file
        self._fds: list[int] = []
        self._map: Any = None
        self._free: deque[int] = deque()  # taken at the front, given back at the end: an ended span's slot is used last
        self._open: dict[int, Any] = {}
        self._trace: tuple[int, bytes] = (0, b"")
        self._described: dict[int, tuple[int, int]] = {}
        self._armed = False
        self._begun = self._opened = False
        self.missed = 0
        self.failure: str | None = None

    def arm(self) -> None:
        """From now on the next span or record makes the file."""
        self._armed = True

    # -- the hot path

    def began(self, span: Any) -> None:
        """Notes a span that is in flight from now on."""
        try:
            slot = self._free.popleft()
        except IndexError:
            if self._finds_room():
                self.began(span)
            return
        try:
            shared = span.shared
            content = shared.encoded.get(SPAN_ATTRIBUTE, b"") if shared is not None else b""
        except AttributeError:  # nobody has encoded them yet
            content = b""
        try:
            name = span.name.encode()
            trace_id = span.trace_id
            known, encoded = self._trace
            if known is not trace_id:  # a trace's spans have its number in common, and follow each other
                encoded = trace_id.to_bytes(16, "big")
                self._trace = trace_id, encoded
            if content:
                self._fill(slot, content)
            _write(
                self._map, slot, encoded, span.span_id, span.parent_id, span.start_time,
                span.flags, span.kind._value_, 0, len(name), len(content), name, 0, ring.OPEN,
            )  # fmt: skip
            span.slot = slot
            self._open[slot] = span
        except Exception:  # noqa: BLE001 - whatever an application gave as a name or a time
            self._free.append(slot)
            self.missed += 1

    def ended(self, span: Any) -> None:
        """Notes that a span has ended: until `release` it is one that nobody else has."""
        try:
            slot = span.slot
            begun = self._open.pop(slot)
            if begun is not span and begun.span_id != span.span_id:
                self._open[slot] = begun
                return
            if span.details is not None:
                self._map[slot + ring.STATUS_AT] = span.details.status.status_code.value
            _write_end(self._map, slot + ring.END_AT, span.end_time, ring.ENDED)
            self._free.append(slot)
        except Exception:  # noqa: BLE001 - it was not noted, or in the process that this one was forked from
            self.missed += 1

    def log(self, record: Any) -> None:
        """Notes a log record: until `release` nobody else has it."""
        try:
            slot = self._free.popleft()
        except IndexError:
            if self._finds_room():
                self.log(record)
            return
        try:
            body = record.body
            content = b"" if not isinstance(body, str) else body[: ring.CONTENT_BYTES].encode("utf-8", "replace")
            if content and self._redaction.is_secret_text(body):
                content = _REDACTED
            name = (record.event_name or "")[: ring.NAME_BYTES].encode("utf-8", "replace")
            if content:
                self._fill(slot, content)
            _write(
                self._map, slot, record.trace_id.to_bytes(16, "big"), record.span_id, 0, record.timestamp or 0,
                record.flags, record.severity_number, 0, len(name), len(content), name,
                record.observed_timestamp or 0, ring.LOG,
            )  # fmt: skip
            record.slot = slot
        except Exception:  # noqa: BLE001 - whatever an application gave as a time or a number
            self.missed += 1
        self._free.append(slot)

    def release(self, records: Iterable[Any]) -> None:
        """These are in the spool, or counted as dropped: the ring need not know them any more."""
        content = self._map
        if content is None:
            return
        for record in records:
            slot = getattr(record, "slot", None)
            if slot is None:
                continue
            ended = record.end_time if hasattr(record, "end_time") else record.observed_timestamp
            if (
                _read_number(content, slot + ring.SPAN_ID_AT) == (record.span_id,)
                and _read_number(content, slot + ring.END_AT) == (ended or 0,)
            ):  # fmt: skip
                content[slot + ring.STATE_AT] = ring.FREE

    def _fill(self, slot: int, content: bytes) -> None:
        start = ring.content_at(slot)
        content = content[: ring.CONTENT_BYTES]
        self._map[start : start + len(content)] = content

    def _finds_room(self) -> bool:
        """Makes the file, at the first time; counts what has no room in it later."""
        if self._opened:
            self.missed += 1
            return False
        if not self._armed:
            return False
        with self._lock:
            if not self._begun:
                self._begun = True
                self._make()
                self._opened = True
                self._start()
        return bool(self._free)

    # -- the file

    def _make(self) -> None:
        options = self._options
        path = options.folder / f"{os.getpid()}-{self._started_ns}"
        unnamed = path.with_suffix(".new")
        try:
            for folder in (*reversed(options.folder.parents[:2]), options.folder):
                private_directory(folder)
            fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._fds.append(fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, ring.RING_BYTES)  # a full disk shows here, and not as SIGBUS later
            else:
                os.ftruncate(fd, ring.RING_BYTES)
            content = mmap.mmap(fd, ring.RING_BYTES)
            about = ring.About(
                os.getpid(), self._started_ns, time.time_ns(), oom_kills(), boot_id(), options.service, options.resource
            )
            content[: ring.HEADER_BYTES] = ring.header(about)
            unnamed.rename(path.with_suffix(RING))  # locked and complete, now that others can find it
        except OSError as error:
            self.failure = str(error)
            unnamed.unlink(missing_ok=True)
            self._let_go()
            return
        self._map = content
        self._free.extend(range(ring.HEADER_BYTES, ring.content_at(ring.HEADER_BYTES), ring.SLOT_BYTES))
        self._watch_for_crashes(path.with_suffix(CRASH))

    def _watch_for_crashes(self, path: Path) -> None:
        """Has the interpreter write where a segmentation fault or the like came; not where somebody does so already."""
        if faulthandler.is_enabled():
            return
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._fds.append(fd)
            faulthandler.enable(fd)

    def close(self) -> None:
        """At the process's orderly end: nobody needs to know what it was doing."""
        self._free.clear()
        if self._opened and self.failure is None:
            path = self._options.folder / f"{os.getpid()}-{self._started_ns}"
            for suffix in (RING, CRASH):
                with contextlib.suppress(OSError):
                    path.with_suffix(suffix).unlink()
        self._begun = self._opened = True
        self._let_go()

    def abandon(self) -> None:
        """In a forked child: the file is the parent's."""
        self._begun = self._opened = True
        self._free = deque()
        self._open = {}
        self._map = None
        self._let_go()

    def _let_go(self) -> None:
        fds, self._fds = self._fds, []
        if len(fds) > 1:
            faulthandler.disable()  # it would write into whatever gets this descriptor next
        for fd in fds:
            os.close(fd)

    # -- the worker's part

    def tend(self) -> None:
        """Gives a sign of life, and adds to the spans in flight what they have of their own by now."""
        content = self._map
        if content is None:
            return
        now_ns = time.time_ns()
        _write_time(content, ring.ALIVE_AT, now_ns)
        described = {}
        for slot, span in list(self._open.items()):
            own = span.own
            state = (span.span_id, len(own) if own else 0)
            described[slot] = state
            if self._described.get(slot) != state:
                with contextlib.suppress(RuntimeError):  # the application's thread adds an attribute meanwhile
                    self._describe(content, slot, span)
            if len(self._free) < _FEW and span.start_time < now_ns - _FORGOTTEN_NS:
                self._open.pop(slot, None)
                self._free.append(slot)
        self._described = described

    def _describe(self, content: Any, slot: int, span: Any) -> None:
        fields = b"".join(
            self._attributes.fields(SPAN_ATTRIBUTE, layer) for layer in (span.own, span.bound, span.shared) if layer
        )
        if self._open.get(slot) is span:
            self._fill(slot, fields)
            _write_length(content, slot + ring.CONTENT_LENGTH_AT, len(fields))

    def describe(self) -> dict[str, object]:
        """Where it is, how many spans are in flight, and how much it could not note."""
        return {
            "folder": str(self._options.folder),
            "in_flight": len(self._open),
            "missed": self.missed,
            "failure": self.failure,
        }
