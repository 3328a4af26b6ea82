"""A timer on each watched event loop, from its first watch to its end."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
import weakref
from types import CodeType, FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

INTERVAL_S = 0.5


class LoopTimers:
    """Has a timer of each watched loop fire every `interval_s`, and learns how late it did.

    Makes no task. A watch ends with its loop, and lets the loop end: neither a run of the loop nor the process waits
    for the timer, and nothing outside of the loop refers to it.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self.interval_s = interval_s
        # By id, because not every loop can be referred to weakly. A timer keeps its loop, so that no other can get the
        # id while the entry is there, and only the loop's own schedule keeps the timer.
        self._timers: dict[int, weakref.ref[LoopTimer]] = {}
        self._stopped = False
        self._last = 0

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watches a loop until it is closed, once; to be called on the loop's thread."""
        key = id(loop)
        if key == self._last:
            return
        if key in self._timers or self._stopped or loop.is_closed():
            return
        timer = LoopTimer(self, loop)
        self._timers[key] = weakref.ref(timer, lambda _: self._forget(key))
        self._last = key
        timer.arm(self.interval_s)
        self.watched(timer)

    def _forget(self, key: int) -> None:
        self._timers.pop(key, None)
        self._last = 0

    def stop(self) -> None:
        """Ends every watch at its next timer."""
        self._stopped = True

    def timer_fired(self, timer: LoopTimer, late_s: float | None) -> None:
        """Takes a lag, None being one that means nothing, and goes on."""
        if self._stopped:
            return
        timer.arm(self.interval_s)
        if late_s is not None:
            self.take(max(0.0, late_s))

    def watched(self, timer: LoopTimer) -> None:
        """Is told of each new watch, on the loop's thread; must not raise."""

    def take(self, late_s: float) -> None:
        """Is told of each lag, on the loop's thread; must not raise."""


class LoopTimer:
    """The timer of one loop; `asked_s` and `due_s` are readings of `time.monotonic`."""

    __slots__ = ("__weakref__", "_context", "_run", "_timers", "asked_s", "due_s", "loop", "outside", "thread_id")

    def __init__(self, timers: LoopTimers, loop: asyncio.AbstractEventLoop) -> None:
        self._timers = timers
        self.loop = loop
        self.outside: CodeType | None = None
        """What calls the loop's callbacks, once the loop has answered or the timer has fired."""
        self.asked_s: float | None = None
        """Since when the loop has been asked and has not answered."""
        # Of its own: the caller's holds a request, whose span would become the exemplar of every lag to come.
        self._context = contextvars.Context()

    def arm(self, interval_s: float) -> None:
        """To be called on the loop's thread."""
        self._run = _run_of_loop()
        self.thread_id = threading.get_ident()
        self.due_s = time.monotonic() + interval_s
        self.loop.call_later(interval_s, self._fired, context=self._context)

    def ask(self) -> None:
        """Has the loop answer with its next callbacks. To be called on any thread; raises RuntimeError when the loop is
        closed.
        """
        self.asked_s = time.monotonic()
        self.loop.call_soon_threadsafe(self._answer, context=self._context)

    def _answer(self) -> None:
        self.asked_s = None
        self._note_caller(sys._getframe().f_back)

    def _note_caller(self, caller: FrameType | None) -> None:
        self.outside = caller.f_code if caller is not None else None

    def _fired(self) -> None:
        if not self.loop.is_closed():
            late_s = time.monotonic() - self.due_s
            self._note_caller(sys._getframe().f_back)
            # While a loop does not run its timers are late, but nobody waits for it.
            self._timers.timer_fired(self, late_s if _run_of_loop() is self._run else None)


def _run_of_loop() -> object:
    """An object that stays the same as long as the current thread's loop runs without a break.

    A loop that begins to run sets the thread's hooks for asynchronous generators, to a new method each time.
    """
    return sys.get_asyncgen_hooks().firstiter
