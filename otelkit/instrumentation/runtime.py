"""Measures the process and its Python: CPU, memory, threads, descriptors, garbage collection, event-loop lag.

All but the lag is read when metrics are collected; the lag costs a watched loop two timers a second.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from otelkit import semconv
from otelkit.instrumentation import instruments
from otelkit.instrumentation.loop_timers import INTERVAL_S, LoopTimers
from otelkit.instrumentation.process import this_process

if TYPE_CHECKING:
    import asyncio  # takes longer to import than this package: with the first loop

_installed: LoopLag | None = None
_beside: LoopTimers | None = None
_running_loop: Callable[[], asyncio.AbstractEventLoop] | None = None


def install(meter: Meter) -> Callable[[], None]:
    """Registers the observable instruments, turns `watch_running_loop` on, and returns what undoes both.

    After the undo the callbacks, which OpenTelemetry cannot unregister, yield nothing, and a watched loop is
    left alone from its next timer on. To call it twice does no harm.
    """
    global _installed
    readings, process = _Readings(), this_process()
    instruments.observe(meter, semconv.PROCESS_CPU_TIME, [readings.cpu_time])
    for metric, read in (
        (semconv.PROCESS_MEMORY_USAGE, process.resident_bytes),
        (semconv.PROCESS_MEMORY_VIRTUAL, process.virtual_bytes),
        (semconv.PROCESS_THREAD_COUNT, process.threads),
        (semconv.PROCESS_DESCRIPTORS, process.descriptors),
        (semconv.PROCESS_UPTIME, process.uptime_s),
    ):
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


def watch_with(timers: LoopTimers) -> None:
    """Has `watch_running_loop` put these timers onto the loop as well."""
    global _beside
    _beside = timers


def leave(timers: LoopTimers) -> None:
    """Takes them away again."""
    global _beside
    if _beside is timers:
        _beside = None


def watch_running_loop() -> None:
    """Watches the event loop that the caller runs on, from now on and once.

    Cheap enough for every request. Does nothing without `install` or `watch_with`, and outside of an asyncio loop.
    """
    global _running_loop
    lag, beside = _installed, _beside
    if lag is None and beside is None:
        return
    if _running_loop is None:
        from asyncio import get_running_loop

        _running_loop = get_running_loop
    try:
        loop = _running_loop()
    except RuntimeError:
        return
    if lag is not None:
        lag.watch(loop)
    if beside is not None:
        beside.watch(loop)


class LoopLag(LoopTimers):
    """Records, in seconds, how late a timer of each watched event loop fires; makes no thread."""

    def __init__(self, histogram: Histogram, *, interval_s: float = INTERVAL_S) -> None:
        super().__init__(interval_s)
        self._histogram = histogram

    def take(self, late_s: float) -> None:
        # An error would be the loop's, twice a second.
        with suppress(Exception):
            self._histogram.record(late_s)


class _Readings:
    """Makes the callbacks, which a thread of the exporter calls, also in a child after a fork."""

    def __init__(self) -> None:
        self.stopped = False

    def cpu_time(self, _: CallbackOptions) -> Iterable[Observation]:
        if self.stopped:
            return ()
        times = os.times()
        return (Observation(times.user, {"cpu.mode": "user"}), Observation(times.system, {"cpu.mode": "system"}))

    def of_process(self, read: Callable[[], float]) -> instruments.Callback:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if self.stopped:
                return ()
            try:
                return (Observation(read()),)
            except OSError:
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


_COLLECTOR_STATISTICS = (
    (semconv.CPYTHON_GC_COLLECTIONS, "collections"),
    (semconv.CPYTHON_GC_COLLECTED, "collected"),
    (semconv.CPYTHON_GC_UNCOLLECTABLE, "uncollectable"),
)
