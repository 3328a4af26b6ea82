"""Measures the process and its Python: CPU, memory, threads, descriptors, garbage collection, event-loop lag.

All but the lag is read when metrics are collected; the lag costs a watched loop two timers a second.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from otelkit import semconv
from otelkit.instrumentation import instruments
from otelkit.instrumentation.loop_timers import LOOPS, LoopTimer
from otelkit.instrumentation.process import this_process


def install(meter: Meter) -> Callable[[], None]:
    """Registers the observable instruments, measures the lag of the watched loops, and returns what undoes both.

    After the undo the callbacks, which OpenTelemetry cannot unregister, yield nothing. To call it twice does no harm.
    """
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
    leave = LOOPS.listen(LoopLag(instruments.histogram(meter, semconv.ASYNCIO_LOOP_LAG)))

    def undo() -> None:
        readings.stopped = True
        leave()

    return undo


class LoopLag:
    """Records, in seconds, how late the timer of each watched event loop fires; makes no thread."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def watched(self, timer: LoopTimer) -> None:
        """Nothing: a new watch has no lag yet."""

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
