"""Prints each local trace as a tree on standard error, from a thread of its own: the application's threads only queue.

The thread starts with the first span. What is held is bounded (local_traces.Limits and the queue here), and what is
cut is counted and said.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Literal

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from rich.text import Text

from otelkit.console.local_traces import Limits, LocalTrace, LocalTraces
from otelkit.console.terminal import Terminal
from otelkit.console.tree import draw
from otelkit.runtime import guard
from otelkit.runtime.bell import Bell

_MOST_QUEUED = 20_000
_CLOSE_S = 0.5
# Access logs say what the line of the request's own span says.
_REPEATING_LOGGERS = ("uvicorn.access", "http.server")

_Event = (
    tuple[Literal["start", "end"], ReadableSpan]
    | tuple[Literal["log"], ReadWriteLogRecord]
    | tuple[Literal["flush", "close"], threading.Event]
)


class TreePrinter(SpanProcessor, LogRecordProcessor):
    """Both processors in one, for the spans and for the log records inside them.

    It belongs to the process that made it: after a fork the child makes its own and calls `abandon` on this one.
    """

    def __init__(self, terminal: Terminal | None = None, limits: Limits | None = None) -> None:
        self._terminal = terminal or Terminal()
        self._limits = limits or Limits()
        self._events: deque[_Event] = deque()
        self._wake = Bell()
        self._traces = LocalTraces(self._limits)
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._overrun = 0
        self._said = (0, 0)

    # -- the application's side

    @guard.guard("the console tree")
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._put(("start", span))

    @guard.guard("the console tree")
    def on_end(self, span: ReadableSpan) -> None:
        self._put(("end", span))

    @guard.guard("the console tree")
    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        scope = log_record.instrumentation_scope
        if log_record.log_record.trace_id and (scope is None or scope.name not in _REPEATING_LOGGERS):
            self._put(("log", log_record))

    def _put(self, event: _Event) -> None:
        if self._closed:
            return
        if self._thread is None:
            self._start()
        if len(self._events) >= _MOST_QUEUED:
            self._overrun += 1
            return
        self._events.append(event)
        self._wake.ring()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="otelkit-console", daemon=True)
                thread.start()
                self._thread = thread

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Prints what is complete; False where that took longer than allowed."""
        return self._ask("flush", timeout_millis / 1000)

    def close(self) -> None:
        """Prints everything, unfinished spans too, and ends; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._ask("close", _CLOSE_S)

    def shutdown(self) -> None:
        """The opening closes it, not one signal's provider."""

    def abandon(self) -> None:
        """In a forked child: these spans are the parent's, and the thread is not here."""
        self._closed = True
        self._thread = None

    def _ask(self, what: Literal["flush", "close"], timeout_s: float) -> bool:
        if self._thread is None or not self._thread.is_alive():
            return True
        done = threading.Event()
        self._events.append((what, done))
        self._wake.ring()
        return done.wait(timeout_s)

    # -- the thread's side

    def _run(self) -> None:
        while True:
            if not self._events:
                due = self._traces.next_due()
                self._wake.wait(None if due is None else max(0.0, due - time.monotonic()))
            asked = None
            for _ in range(len(self._events)):
                asked = self._take(self._events.popleft())
                if asked is not None:
                    break
            if asked is None:
                self._print(self._traces.take_due(time.monotonic()))
                continue
            what, done = asked
            self._print(self._traces.take_complete() if what == "flush" else self._traces.take_all())
            done.set()
            if what == "close":
                return

    def _take(self, event: _Event) -> tuple[Literal["flush", "close"], threading.Event] | None:
        with guard.guarded("the console tree"):
            now = time.monotonic()
            if event[0] == "start":
                self._traces.started(event[1], now)
            elif event[0] == "end":
                self._traces.ended(event[1], now)
            elif event[0] == "log":
                self._traces.logged(event[1], now)
        return event if event[0] == "flush" or event[0] == "close" else None

    def _print(self, parts: Iterator[LocalTrace]) -> None:
        try:
            for part in parts:
                self._show(part)
        except Exception:  # noqa: BLE001 - what is wrong with the traces that are held must not come again for ever
            guard.report("the console tree")
            self._traces = LocalTraces(self._limits)

    @guard.guard("the printing of a console tree")
    def _show(self, part: LocalTrace) -> None:
        look = self._terminal.look()
        self._terminal.write([*draw(part, look), *self._notes()], look)

    def _notes(self) -> list[Text]:
        """What was not shown since the last tree."""
        evicted, overrun = self._traces.evicted, self._overrun
        notes = []
        if evicted > self._said[0]:
            count = evicted - self._said[0]
            notes.append(f"{count} traces are not shown: more than {self._limits.max_traces} were in progress at once")
        if overrun > self._said[1]:
            notes.append(f"{overrun - self._said[1]} spans and log records are not shown: they came too fast")
        self._said = (evicted, overrun)
        return [Text(note, "yellow") for note in notes]
