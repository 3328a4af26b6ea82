"""Where the SDK hands its records to otelkit: processors and a reader in front of the delivery pipeline."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otelkit.delivery.pipeline import Pipeline
from otelkit.engine.sdk_records import SdkLogRecord, SdkSpan
from otelkit.signals import correlation


class SpanCorrelation(SpanProcessor):
    """Puts what is bound in the request or task onto each span at its start."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        present = span.attributes or {}
        missing = {key: value for key, value in (correlation.bound() or {}).items() if key not in present}
        if missing:
            span.set_attributes(missing)  # type: ignore[arg-type]


class LogCorrelation(LogRecordProcessor):
    """Puts what is bound in the request or task onto each log record."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        attributes = log_record.log_record.attributes
        if attributes is None:
            return
        for key, value in (correlation.bound() or {}).items():
            if key not in attributes:
                attributes[key] = value  # type: ignore[index]

    def enabled(self, **_: object) -> bool:
        """Wants no record for itself."""
        return False

    def shutdown(self) -> None:
        """Holds nothing."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


class SpanIntake(SpanProcessor):
    """Queues sampled spans when they end; the flight recorder is told when they start."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._put = pipeline.spans.put
        self._recorder = pipeline.recorder
        self._begun: dict[int, SdkSpan] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._recorder is not None and span.context.trace_flags.sampled:
            begun = self._begun[span.context.span_id] = SdkSpan(span)
            self._recorder.began(begun)

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is not None and context.trace_flags.sampled:
            ended = SdkSpan(span)
            begun = self._begun.pop(ended.span_id, None)
            if begun is not None and hasattr(begun, "slot"):
                ended.slot = begun.slot
            self._put(ended)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._pipeline.flush(timeout_millis / 1000).ok


class LogIntake(LogRecordProcessor):
    """Queues log records."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._put = pipeline.logs.put

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self._put(SdkLogRecord(log_record))

    def shutdown(self) -> None:
        """The pipeline ends with the opening, not with one signal's provider."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._pipeline.flush(timeout_millis / 1000).ok


class CollectionIntake(MetricReader):
    """Hands each collection to a consumer; the pipeline's worker asks for one at every interval."""

    def __init__(
        self,
        consume: Callable[[MetricsData], None],
        *,
        temporality: dict[type, object] | None = None,
        aggregation: dict[type, object] | None = None,
    ) -> None:
        super().__init__(preferred_temporality=temporality, preferred_aggregation=aggregation)  # type: ignore[arg-type]
        self._consume = consume

    def redirect(self, consume: Callable[[MetricsData], None]) -> None:
        """Hands collections to another consumer from now on."""
        self._consume = consume

    def collect_now(self, timeout_s: float) -> None:
        """Collects, observable callbacks included, and hands the result on."""
        self.collect(timeout_millis=timeout_s * 1000)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> None:
        self._consume(metrics_data)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """The pipeline ends with the opening, not with one signal's provider."""
