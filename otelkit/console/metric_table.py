"""Prints the metrics as a table on standard error at each interval: what `OTEL_METRICS_EXPORTER=console` asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import Span, SpanProcessor
from rich.text import Text

from otelkit.console.terminal import Look, Terminal, clean, fitted
from otelkit.runtime import guard

_CLOSE_S = 1.0


class MetricTable(SpanProcessor, LogRecordProcessor):
    """Reads `reader` every `interval_s` seconds and at the end.

    A metric reader is not told of a measurement, and no thread may start before the process's first record: the first
    span or log record starts it. It belongs to the process that made it (see TreePrinter).
    """

    def __init__(self, interval_s: float, terminal: Terminal | None = None) -> None:
        self.reader = InMemoryMetricReader()
        self._interval_s = interval_s
        self._terminal = terminal or Terminal()
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._closed = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._start()

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if log_record.log_record.event_name != "otelkit.application.starting":
            self._start()

    @guard.guard("the start of the metric table")
    def _start(self) -> None:
        if self._thread is not None or self._closed:
            return
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="otelkit-metrics", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while not self._ending.wait(self._interval_s):
            self._print()

    def close(self) -> None:
        """Prints once more and ends; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        self._print()

    def abandon(self) -> None:
        """In a forked child: the numbers are the parent's, and the thread is not here."""
        self._closed = True

    def shutdown(self) -> None:
        """The opening closes it, not one signal's provider."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    @guard.guard("the printing of the metrics")
    def _print(self) -> None:
        data = self.reader.get_metrics_data()
        if data is not None:
            look = self._terminal.look()
            self._terminal.write(metric_table(data, look), look)


def metric_table(data: MetricsData, look: Look) -> list[Text]:
    """A heading and a line a series: `name{labels}  value unit`; a histogram's count, mean, least and greatest."""
    rows = sorted(
        row
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for row in _rows(metric)
    )
    widest = min(max((len(name) for name, _ in rows), default=0), look.width // 2)
    lines = [Text(f"{time.strftime('%H:%M:%S')} metrics", "bold")]
    for name, value in rows:
        lines.append(fitted(Text(f"  {name.ljust(widest)}  ").append(value, "cyan"), look))
    return lines


def _rows(metric: Metric) -> Iterator[tuple[str, str]]:
    unit = "" if not metric.unit or metric.unit.startswith("{") else f" {metric.unit}"
    for point in metric.data.data_points:
        labels = ", ".join(f"{key}={value!s}" for key, value in sorted((point.attributes or {}).items()))
        yield clean(f"{metric.name}{{{labels}}}" if labels else metric.name), _value(point, clean(unit))


def _value(point: NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint, unit: str) -> str:
    if isinstance(point, NumberDataPoint):
        return f"{point.value if isinstance(point.value, int) else f'{point.value:.6g}'}{unit}"
    mean = point.sum / point.count if point.count else 0.0
    return f"count {point.count}  mean {mean:.3g}{unit}  min {point.min:.3g}  max {point.max:.3g}"
