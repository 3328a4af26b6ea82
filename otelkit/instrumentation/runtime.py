"""Measures the process and its Python: CPU, memory, threads, descriptors, garbage collection, event-loop lag.

All but the lag is read when metrics are collected; the lag costs a watched loop two timers a second.
"""

from __future__ import annotations

import contextvars
import gc
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from otelkit import semconv
from otelkit.instrumentation import instruments

if TYPE_CHECKING:
    # Either takes longer to import than this package: they wait until the first reading and the first loop.
    import asyncio

    import psutil

LAG_INTERVAL_S = 0.5

Read = Callable[["psutil.Process"], Iterable[Observation]]

_installed: LoopLag | None = None
_running_loop: Callable[[], asyncio.AbstractEventLoop] | None = None


def install(meter: Meter) -> Callable[[], None]:
    """Registers the observable instruments, turns `watch_running_loop` on, and returns what undoes both.

    After the undo the callbacks, which OpenTelemetry cannot unregister, yield nothing, and a watched loop is
    left alone from its next timer on. To call it twice does no harm.
    """
    global _installed
    readings = _Readings()
    for metric, read in _PROCESS_READS:
        instruments.observe(meter, metric, [readings.of_process(read)])
    for metric, statistic in _COLLECTOR_STATISTICS:
        instruments.observe(meter, metric, [readings.of_collector(statistic)])
    lag = _installed = LoopLag(instruments.histogram(meter, semconv.ASYNCIO_LOOP_LAG))

    def undo() -> None:
        global _installed
        readings.stopped = True
        lag.stop()
        if _installed is lag:
            _installed = None

    return undo


def watch_running_loop() -> None:
    """Measures the lag of the event loop that the caller runs on, from now on and once.

    Cheap enough for every request. Does nothing without `install`, and outside of an asyncio loop.
    """
    global _running_loop
    lag = _installed
    if lag is None:
        return
    if _running_loop is None:
        from asyncio import get_running_loop

        _running_loop = get_running_loop
    try:
        loop = _running_loop()
    except RuntimeError:
        return
    lag.watch(loop)


class LoopLag:
    """Records, in seconds, how late a timer of each watched event loop fires.

    Makes no task and no thread. A watch ends with its loop, and lets the loop end: neither a run of the loop
    nor the process waits for the timer, and nothing outside of the loop refers to it.
    """

    def __init__(self, histogram: Histogram, *, interval_s: float = LAG_INTERVAL_S) -> None:
        self._histogram = histogram
        self._interval_s = interval_s
        # By id, because not every loop can be referred to weakly. A watch keeps its loop, so that no other
        # can get the id while the entry is there, and only the loop's own schedule keeps the watch.
        self._watches: dict[int, weakref.ref[_Watch]] = {}
        self._stopped = False
        self._last = 0

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watches a loop until it is closed, once; to be called on the loop's thread."""
        key = id(loop)
        if key == self._last:
            return
        if key in self._watches or self._stopped or loop.is_closed():
            return
        watch = _Watch(self, loop)
        self._watches[key] = weakref.ref(watch, lambda _: self._forget(key))
        self._last = key
        watch.arm(self._interval_s)

    def _forget(self, key: int) -> None:
        self._watches.pop(key, None)
        self._last = 0

    def stop(self) -> None:
        """Ends every watch at its next timer."""
        self._stopped = True

    def timer_fired(self, watch: _Watch, late_s: float | None) -> None:
        """Records a lag, None being one that means nothing, and goes on."""
        if self._stopped:
            return
        watch.arm(self._interval_s)
        if late_s is not None:
            # An error would be the loop's, twice a second.
            with suppress(Exception):
                self._histogram.record(max(0.0, late_s))


class _Watch:
    """The timer of one loop."""

    __slots__ = ("__weakref__", "_context", "_due_s", "_lag", "_loop", "_run")

    def __init__(self, lag: LoopLag, loop: asyncio.AbstractEventLoop) -> None:
        self._lag = lag
        self._loop = loop
        # Of its own: the caller's holds a request, whose span would become the exemplar of every lag to come.
        self._context = contextvars.Context()

    def arm(self, interval_s: float) -> None:
        self._run = _run_of_loop()
        self._due_s = time.monotonic() + interval_s
        self._loop.call_later(interval_s, self._fired, context=self._context)

    def _fired(self) -> None:
        if not self._loop.is_closed():
            late_s = time.monotonic() - self._due_s
            # While a loop does not run its timers are late, but nobody waits for it.
            self._lag.timer_fired(self, late_s if _run_of_loop() is self._run else None)


def _run_of_loop() -> object:
    """An object that stays the same as long as the current thread's loop runs without a break.

    A loop that begins to run sets the thread's hooks for asynchronous generators, to a new method each time.
    """
    return sys.get_asyncgen_hooks().firstiter


class _Readings:
    """Makes the callbacks, which a thread of the exporter calls, also in a child after a fork."""

    def __init__(self) -> None:
        self.stopped = False
        self._process: tuple[int, psutil.Process] | None = None

    def of_process(self, read: Read) -> instruments.Callback:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if self.stopped:
                return ()
            import psutil

            try:
                return read(self._current_process())
            except (psutil.Error, OSError):
                return ()

        return observe

    def of_collector(self, statistic: str) -> instruments.Callback:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if self.stopped:
                return ()
            return [
                Observation(generation[statistic], {"cpython.gc.generation": number})
                for number, generation in enumerate(gc.get_stats())
            ]

        return observe

    def _current_process(self) -> psutil.Process:
        pid = os.getpid()
        known = self._process
        if known is None or known[0] != pid:
            import psutil

            known = self._process = (pid, psutil.Process(pid))
        return known[1]


def _cpu_time(process: psutil.Process) -> Iterable[Observation]:
    times = process.cpu_times()
    return (
        Observation(times.user, {"cpu.mode": "user"}),
        Observation(times.system, {"cpu.mode": "system"}),
    )


def _memory_usage(process: psutil.Process) -> Iterable[Observation]:
    return (Observation(process.memory_info().rss),)


def _memory_virtual(process: psutil.Process) -> Iterable[Observation]:
    return (Observation(process.memory_info().vms),)


def _thread_count(process: psutil.Process) -> Iterable[Observation]:
    return (Observation(process.num_threads()),)


def _descriptors(process: psutil.Process) -> Iterable[Observation]:
    return (Observation(process.num_fds()),)


def _uptime(process: psutil.Process) -> Iterable[Observation]:
    return (Observation(max(0.0, time.time() - process.create_time())),)


_PROCESS_READS: tuple[tuple[semconv.Metric, Read], ...] = (
    (semconv.PROCESS_CPU_TIME, _cpu_time),
    (semconv.PROCESS_MEMORY_USAGE, _memory_usage),
    (semconv.PROCESS_MEMORY_VIRTUAL, _memory_virtual),
    (semconv.PROCESS_THREAD_COUNT, _thread_count),
    (semconv.PROCESS_DESCRIPTORS, _descriptors),
    (semconv.PROCESS_UPTIME, _uptime),
)
_COLLECTOR_STATISTICS = (
    (semconv.CPYTHON_GC_COLLECTIONS, "collections"),
    (semconv.CPYTHON_GC_COLLECTED, "collected"),
    (semconv.CPYTHON_GC_UNCOLLECTABLE, "uncollectable"),
)
