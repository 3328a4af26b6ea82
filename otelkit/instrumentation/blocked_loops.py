"""Callbacks that block an event loop: one log record each, with the stack in which they do, made while they do.

A thread looks at each watched loop's thread once a threshold. Where it finds it within a callback it asks the loop,
which a loop that goes on answers with its next callbacks; where it has not answered at the next look, it is blocked. An
idle loop is not woken for it. The thread starts with the first watched loop and ends with the last.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from types import FrameType
from typing import Any

from opentelemetry._logs import SeverityNumber, get_logger

from otelkit.config.settings import Settings
from otelkit.instrumentation.loop_timers import LOOPS, LoopTimer, LoopTimers
from otelkit.runtime import fork, guard
from otelkit.runtime.bell import Bell
from otelkit.signals.fingerprints import in_application

EVENT = "asyncio.event_loop.blocked"
_MOST_FRAMES = 100
_INSIDE_THE_LOOP = ("_run_once", "run_forever")


def install(settings: Settings) -> Callable[[], None]:
    """Looks at the loops that requests run on, unless OTELKIT_BLOCKED_LOOP_S is 0; returns the undo."""
    if not settings.blocked_loop_s:
        return lambda: None
    blocked = BlockedLoops(settings.blocked_loop_s, LOOPS)
    leave = LOOPS.listen(blocked)

    def undo() -> None:
        leave()
        blocked.stop()

    return undo


class BlockedLoops:
    """Tells of each callback that blocks for twice `threshold_s`, of some from once, of none below."""

    def __init__(self, threshold_s: float, loops: LoopTimers) -> None:
        self._threshold_s = threshold_s
        self._loops = loops
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._wake = Bell()
        self._logger = get_logger("otelkit.asyncio")
        fork.on_child(self._after_fork)

    def _after_fork(self) -> None:
        """In a forked child: the thread is the parent's, and so are the loops."""
        self._lock = threading.Lock()
        self._wake = Bell()
        self._thread = None

    def watched(self, timer: LoopTimer) -> None:
        with suppress(RuntimeError):  # it was closed in the meantime
            timer.ask()  # the answer shows what calls the callbacks
        with self._lock:
            if self._thread is None and not self._stopped:
                thread = threading.Thread(target=self._look, name="otelkit-loops", daemon=True)
                with suppress(RuntimeError):  # no thread can start while the interpreter ends
                    thread.start()
                    self._thread = thread

    def take(self, late_s: float) -> None:
        """Nothing: a lag is known when it is over."""

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped = True
        self._wake.ring()

    def _look(self) -> None:
        while True:
            self._wake.wait(self._threshold_s)
            # Short, and few calls: most looks find an idle loop, and after each wait all that they touch has left the
            # processor's caches.
            try:
                watched = not self._stopped and self._look_once()
            except Exception:  # noqa: BLE001 - the next look may do better
                guard.report("the look at an event loop")
                continue
            if not watched and self._ends():
                return

    def _ends(self) -> bool:
        with self._lock:
            if not self._stopped and self._loops.timers():
                return False
            self._thread = None
            return True

    def _look_once(self) -> bool:  # until the next look nothing here may refer to a loop, which could not end
        """Looks at every watched loop; whether there is one."""
        timers = self._loops.timers()
        for timer in timers:
            # Not kept in a variable: among all threads' frames is this one, and a cycle would keep what they refer to.
            frame = sys._current_frames().get(timer.thread_id)
            if frame is not None and frame.f_code is not timer.outside:  # a uvloop waits there
                self._look_at(timer, frame)
        return bool(timers)

    def _look_at(self, timer: LoopTimer, frame: FrameType) -> None:
        frames, context = _sample(timer, frame)
        if not frames:
            return
        due_s = timer.due_s
        if timer.asked_s is None:
            with suppress(RuntimeError):  # it was closed in the meantime
                timer.ask()
        asked_s = timer.asked_s
        if asked_s is None or timer.told_s == asked_s:  # it goes on, or is told
            return
        # While a call keeps the interpreter's lock this thread asks nothing: then the timer tells.
        late_s = time.monotonic() - min(asked_s, due_s)
        if late_s >= self._threshold_s:
            timer.told_s = asked_s
            (context or Context()).run(self._tell, frames, late_s)

    def _tell(self, frames: list[FrameType], late_s: float) -> None:
        culprit = next((each for each in frames if in_application(each.f_code.co_filename)), frames[0])
        name, file, line = culprit.f_code.co_name, culprit.f_code.co_filename, culprit.f_lineno or 0
        lines = ((each, each.f_lineno) for each in reversed(frames))
        self._logger.emit(
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=f"the event loop is blocked for more than {self._threshold_s:g} s, in {name} ({file}:{line})",
            event_name=EVENT,
            attributes={
                "asyncio.event_loop.lag": late_s,
                "code.function.name": name,
                "code.file.path": file,
                "code.line.number": line,
                "code.stacktrace": "".join(traceback.StackSummary.extract(lines).format()),
            },
        )


def _sample(timer: LoopTimer, innermost: FrameType) -> tuple[list[FrameType], Context | None]:
    """What a loop's thread does within a callback, the innermost frame first, and a copy of the callback's context;
    no frames where it is in none, because it waits or does not run.
    """
    frame: FrameType | None = innermost
    frames: list[FrameType] = []
    while frame is not None and not _calls_callbacks(frame, timer):
        if frame.f_code.co_name in _INSIDE_THE_LOOP and frame.f_code.co_filename == _file("asyncio.base_events"):
            return [], None
        frames.append(frame)
        frame = frame.f_back
    if frame is None:
        return [], None
    return frames[:_MOST_FRAMES], _context(timer, frame) or _of_request(frames)


def _calls_callbacks(frame: FrameType, timer: LoopTimer) -> bool:
    """Whether this is where the loop begins: asyncio's handle of a callback; with uvloop, who runs the loop."""
    code = frame.f_code
    return code is timer.outside or (code.co_name == "_run" and code.co_filename == _file("asyncio.events"))


def _file(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _context(timer: LoopTimer, caller: FrameType) -> Context | None:
    """A copy of the context that the callback runs in: its handle has it, or, from Python 3.12 on, its task."""
    from asyncio import current_task

    found: Any = getattr(caller.f_locals.get("self"), "_context", None)
    if found is None:
        of_task = getattr(current_task(timer.loop), "get_context", None)
        found = of_task() if of_task is not None else None
    return found.copy() if isinstance(found, Context) else None


def _of_request(frames: list[FrameType]) -> Context | None:
    """The context of the request whose layer is on the stack: uvloop's handles do not tell theirs."""
    for frame in frames:
        code = frame.f_code
        if code.co_name == "recorded" and code.co_filename == _file("otelkit.instrumentation.asgi"):
            request = frame.f_locals.get("request")
            return request.context() if request is not None else None
    return None
