"""Sends what the flight recorders (recorder.py) of dead processes hold: the spans that they were in, how they ended."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind
from opentelemetry.trace.status import Status, StatusCode

from otelkit.config.settings import Signal
from otelkit.delivery import places, ring
from otelkit.delivery.attributes import Redaction
from otelkit.delivery.causes import Cause, cause_of
from otelkit.delivery.encode import SPAN_ATTRIBUTE, Encoder
from otelkit.delivery.ledger import Ledger
from otelkit.delivery.options import RecorderOptions
from otelkit.delivery.outbox import Batch
from otelkit.delivery.packing import Packing
from otelkit.delivery.plain import PlainDetails, PlainLog, PlainSpan
from otelkit.delivery.recorder import CRASH, RING
from otelkit.delivery.records import Shared
from otelkit.delivery.wire import read_whole_fields

logger = logging.getLogger("otelkit.delivery")

UNFINISHED = "otelkit.unfinished"
PROCESS_DIED = "otelkit.process.died"
_SCOPE = InstrumentationScope("otelkit.recorder")
_ERROR, _ERROR_TEXT = 17, "ERROR"
_LOOK_AGAIN_S = 5.0
_LONGEST_TRACEBACK = 32 * 1024
_SEVERITIES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


class Died(NamedTuple):
    """A process that ended without an end: whose it was, how it ended, and what it was doing."""

    about: ring.About
    cause: Cause
    traceback: str
    slots: Sequence[ring.Slot]

    def of(self, state: int) -> list[ring.Slot]:
        """Its spans in flight, its ended spans, or its log records."""
        return [slot for slot in self.slots if slot.state == state]


def take(folder: Path) -> Iterator[Died]:
    """Reads and removes the rings of dead processes; each is taken by one process only."""
    try:
        paths = sorted(folder.glob(f"*{RING}"))
    except OSError:
        return
    for path in paths:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        with open(fd, "rb") as file:
            if not places.seized(fd, path):
                continue
            try:
                content, traceback = file.read(), _traceback(path.with_suffix(CRASH))
                path.unlink()
            except OSError:
                continue
        try:
            about, slots = ring.read(content)
            yield Died(about, cause_of(about, traceback), traceback, list(slots))
        except ValueError:
            logger.warning("%s is no ring of a flight recorder of this version, and is removed", path)


def _traceback(path: Path) -> str:
    """What the interpreter wrote as it crashed; the file is removed."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, encoding="utf-8", errors="replace") as file:
            text = file.read(_LONGEST_TRACEBACK)
        path.unlink()
        return text
    return ""


class Recovery:
    """Looks for dead processes of this one's service, and hands on what they left. The worker's."""

    def __init__(
        self, options: RecorderOptions, ledger: Ledger, packing: Packing, offer: Callable[[Batch], None]
    ) -> None:
        self._options = options
        self._ledger = ledger
        self._packing = packing
        self._offer = offer
        self._next_look = 0.0

    def tick(self) -> None:
        """Looks, where it is time to."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_AGAIN_S
        for died in take(self._options.folder):
            logger.warning(
                "process %d of %s died: %s; %d spans were in flight, and are sent as unfinished",
                died.about.pid,
                died.about.service,
                died.cause.told,
                len(died.of(ring.OPEN)),
            )
            for signal, body, records in requests(died, self._options.redaction):
                account = self._ledger.signals[signal]
                for batch in self._packing.divided(signal, body, records):
                    account.add(account.accepted, batch.records)
                    account.add(account.adopted, batch.records)
                    self._offer(batch)


def requests(died: Died, redaction: Redaction | None) -> Iterator[tuple[Signal, bytes, int]]:
    """What there is to send of a dead process, under its own resource: signal, OTLP request, records."""
    unfinished = died.of(ring.OPEN)
    resource = died.about.resource
    encoder = Encoder({"traces": resource, "logs": resource}, redaction)
    spans = [_span(slot, died) for slot in (*died.of(ring.ENDED), *unfinished)]
    if spans:
        body, failed = encoder.spans(spans)
        yield "traces", body, len(spans) - failed
    logs = [_log(slot) for slot in died.of(ring.LOG)]
    body, failed = encoder.logs([*logs, _obituary(died, unfinished)])
    yield "logs", body, len(logs) + 1 - failed


def _span(slot: ring.Slot, died: Died) -> PlainSpan:
    unfinished = slot.state == ring.OPEN
    status = Status(StatusCode.ERROR, "process died") if unfinished else Status(StatusCode(slot.status))
    shared = Shared()
    shared.encoded = {SPAN_ATTRIBUTE: _whole_fields(slot.content)}
    shared["otelkit.recorder"] = True  # so that it is not empty; what is encoded stands above
    return PlainSpan(
        name=slot.name,
        trace_id=slot.trace_id,
        span_id=slot.span_id,
        parent_id=slot.parent_id,
        flags=slot.flags,
        kind=SpanKind(slot.kind),
        start_time=slot.start_ns,
        end_time=max(died.about.alive_ns, slot.start_ns) if unfinished else slot.end_ns,
        shared=shared,
        own={UNFINISHED: True} if unfinished else {},
        instrumentation_scope=_SCOPE,
        details=PlainDetails(status),
    )


def _log(slot: ring.Slot) -> PlainLog:
    return PlainLog(
        body=slot.content.decode("utf-8", "ignore"),
        severity_number=slot.kind,
        severity_text=_SEVERITIES[(slot.kind - 1) // 4] if 0 < slot.kind <= 4 * len(_SEVERITIES) else None,
        timestamp=slot.start_ns,
        observed_timestamp=slot.end_ns,
        trace_id=slot.trace_id,
        span_id=slot.span_id,
        flags=slot.flags,
        event_name=slot.name or None,
        instrumentation_scope=_SCOPE,
    )


def _obituary(died: Died, unfinished: Sequence[ring.Slot]) -> PlainLog:
    """What says how the process ended, in the trace of the span that it was in last."""
    about = died.about
    last = max(unfinished, key=lambda slot: slot.start_ns, default=None)
    own: dict[str, object] = {
        "process.pid": about.pid,
        "otelkit.process.ended_by": died.cause.name,
        "otelkit.process.spans_in_flight": len(unfinished),
    }
    if died.traceback:
        own["exception.stacktrace"] = died.traceback
    at_ns = max([about.alive_ns, *(max(slot.start_ns, slot.end_ns) for slot in died.slots)])
    return PlainLog(
        body=f"process {about.pid} of {about.service} died: {died.cause.told}; {len(unfinished)} spans were in flight",
        severity_number=_ERROR,
        severity_text=_ERROR_TEXT,
        timestamp=at_ns,
        observed_timestamp=at_ns,
        trace_id=last.trace_id if last is not None else 0,
        span_id=last.span_id if last is not None else 0,
        flags=last.flags & 0xFF if last is not None else 0,
        event_name=PROCESS_DIED,
        instrumentation_scope=_SCOPE,
        own=own,
    )


def _whole_fields(content: bytes) -> bytes:
    """The attributes that are there as a whole: the last one may have been cut."""
    whole = b""
    with contextlib.suppress(ValueError):
        for _, _, field in read_whole_fields(content):
            whole += field
    return whole
