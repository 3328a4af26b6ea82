"""A timer on each watched event loop, from its first watch to its end, for all who want to know something of loops."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Protocol

from otelkit.runtime import fork

if TYPE_CHECKING:
    import asyncio  # takes longer to import than this package: with the first loop

INTERVAL_S = 0.5


class Listener(Protocol):
    """Learns of watched loops; its methods must not raise."""

    def watched(self, timer: LoopTimer) -> None:
        """Is told of each new watch, on the loop's thread, and at first of those that are there."""

    def take(self, late_s: float) -> None:
        """Is told of each lag, on the loop's thread."""


class LoopTimers:
    """Has a timer of each watched loop fire every `interval_s`, and learns how late it did, as long as anybody listens.

    Makes no task. A watch ends with its loop, and lets the loop end: neither a run of the loop nor the process waits
    for the timer, and nothing outside of the loop refers to it.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self.interval_s = interval_s
        # By id, because not every loop can be referred to weakly. A timer keeps its loop, so that no other can get the
        # id while the entry is there, and only the loop's own schedule keeps the timer.
        self._timers: dict[int, weakref.ref[LoopTimer]] = {}
        self.listeners: tuple[Listener, ...] = ()
        self._last = 0
        self.last_thread = 0
        """The identifier of the thread whose loop was watched last; 0 where that loop has ended."""
        fork.on_child(self._after_fork)

    def _after_fork(self) -> None:
        """In a forked child: the loops are the parent's."""
        self._timers = {}
        self._last = self.last_thread = 0

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tells it from now on; returns the undo."""
        self.listeners += (listener,)
        for timer in self.timers():
            listener.watched(timer)

        def undo() -> None:
            self.listeners = tuple(each for each in self.listeners if each is not listener)

        return undo

    def timers(self) -> list[LoopTimer]:
        """Those of the loops that are watched."""
        return [timer for reference in list(self._timers.values()) if (timer := reference()) is not None]

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watches a loop until it is closed, once; to be called on the loop's thread."""
        key = id(loop)
        if key == self._last:
            return
        if key in self._timers or not self.listeners or loop.is_closed():
            return
        timer = LoopTimer(self, loop)
        self._timers[key] = weakref.ref(timer, lambda _: self._forget(key))
        self._last = key
        timer.arm(self.interval_s)
        self.last_thread = timer.thread_id
        for listener in self.listeners:
            listener.watched(timer)

    def _forget(self, key: int) -> None:
        self._timers.pop(key, None)
        self._last = self.last_thread = 0

    def timer_fired(self, timer: LoopTimer, late_s: float | None) -> None:
        """Takes a lag, None being one that means nothing, and goes on."""
        key = id(timer.loop)
        reference = self._timers.get(key)
        if reference is None or reference() is not timer:  # the parent's, in a forked child in which the loop goes on
            return
        if not self.listeners:
            self._forget(key)
            return
        timer.arm(self.interval_s)
        if late_s is not None:
            for listener in self.listeners:
                listener.take(max(0.0, late_s))


class LoopTimer:
    """The timer of one loop; `asked_s` and `due_s` are readings of `time.monotonic`."""

    __slots__ = (
        "__weakref__",
        "_context",
        "_run",
        "_timers",
        "asked_s",
        "due_s",
        "loop",
        "outside",
        "thread_id",
        "told_s",
    )

    def __init__(self, timers: LoopTimers, loop: asyncio.AbstractEventLoop) -> None:
        self._timers = timers
        self.loop = loop
        self.outside: CodeType | None = None
        """What calls the loop's callbacks, once the loop has answered or the timer has fired."""
        self.asked_s: float | None = None
        """Since when the loop has been asked and has not answered."""
        self.told_s: float | None = None
        """Of which asking it was told that the loop does not answer."""
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


LOOPS = LoopTimers()
"""The process's."""
_running_loop: Callable[[], asyncio.AbstractEventLoop] | None = None


def watch_loop_of_request() -> None:
    """The same as `watch_running_loop`, cheap enough for every request: to ask for the running loop is a system call up
    to Python 3.11. A second loop of the thread, while the first is not closed, is watched when it has run for a while
    (running_loops.py).
    """
    if threading.get_ident() != LOOPS.last_thread:
        watch_running_loop()


def watch_running_loop() -> None:
    """Watches the event loop that the caller runs on, from now on and once.

    Does nothing while nobody listens, and outside of an asyncio loop.
    """
    global _running_loop
    if not LOOPS.listeners:
        return
    if _running_loop is None:
        from asyncio import get_running_loop

        _running_loop = get_running_loop
    try:
        loop = _running_loop()
    except RuntimeError:
        return
    LOOPS.watch(loop)
