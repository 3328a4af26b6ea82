"""Keeps what a captured test records, as the SDK hands it over. Thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otelkit.engine.opening import Extras as Receivers
from otelkit.testing.measured import Measured

# What was counted is added up over collections and openings, what was observed is replaced: the temporality says
# which of the two a point is.
_TEMPORALITY: dict[type, AggregationTemporality] = {
    sdk.Counter: AggregationTemporality.DELTA,
    sdk.UpDownCounter: AggregationTemporality.DELTA,
    sdk.Histogram: AggregationTemporality.DELTA,
    sdk.ObservableCounter: AggregationTemporality.CUMULATIVE,
    sdk.ObservableUpDownCounter: AggregationTemporality.CUMULATIVE,
}


class Recording(SpanProcessor, LogRecordProcessor):
    """Receives the records of any number of openings until `end`; spans are kept from their start."""

    def __init__(self) -> None:
        self._started: list[Span] = []
        self._ended: list[ReadableSpan] = []
        self._records: list[ReadWriteLogRecord] = []
        self._measured = Measured()
        self._reader: InMemoryMetricReader | None = None
        self._lock = threading.Lock()
        self._over = False

    def receivers(self) -> Receivers:
        """What the next opening is given: a reader belongs to one opening."""
        self._collect()
        self._reader = InMemoryMetricReader(preferred_temporality=_TEMPORALITY)
        return Receivers((self,), (self,), (self._reader,))

    def end(self) -> None:
        """From now on nothing is received; what there is stays."""
        self._collect()
        self._reader = None
        self._over = True

    @property
    def ended_spans(self) -> Sequence[ReadableSpan]:
        """In the order in which they ended."""
        return tuple(self._ended)

    def all_spans(self) -> Iterator[ReadableSpan]:
        """Those that have ended, and those that have not, as they are now."""
        ended = {_id(span): span for span in self._ended}
        for span in tuple(self._started):
            yield ended.get(_id(span), span)

    @property
    def records(self) -> Sequence[ReadWriteLogRecord]:
        """In the order in which they were emitted."""
        return tuple(self._records)

    def measured(self) -> Measured:
        """All metrics up to now; functions under `otelkit.observe` are read."""
        self._collect()
        return self._measured

    def _collect(self) -> None:
        with self._lock:
            data = self._reader.get_metrics_data() if self._reader is not None else None
            if data is not None:
                self._measured.add(data)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if not self._over:
            self._started.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        if not self._over:
            self._ended.append(span)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if not self._over:
            self._records.append(log_record)

    def shutdown(self) -> None:
        """`end` does it."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def _id(span: ReadableSpan) -> int:
    return span.context.span_id if span.context is not None else 0
