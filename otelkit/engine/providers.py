"""The providers behind OpenTelemetry's globals: set once a process, or attached to those that are there."""

from __future__ import annotations

from collections.abc import Collection

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk import _logs as sdk_logs
from opentelemetry.sdk import metrics as sdk_metrics
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.metrics.export import MetricReader

from otelkit import extras
from otelkit.config.settings import SIGNALS, Signal
from otelkit.delivery.pipeline import Pipeline
from otelkit.engine.intake import CollectionIntake, LogCorrelation, LogIntake, SpanCorrelation, SpanIntake
from otelkit.engine.logs import LoggerProvider
from otelkit.engine.metering import MeterProvider
from otelkit.engine.opening import Extras as Receivers
from otelkit.engine.seams import collects_from
from otelkit.engine.sharing import SharedMetrics
from otelkit.engine.tracing import TracerProvider


def _into_nothing(data: object) -> None:
    """Before the first opening."""


class Providers:
    """The process's three providers behind OpenTelemetry's globals.

    Where an SDK provider of someone else's is there first, otelkit attaches to it instead (`foreign` names the
    signals).
    """

    def __init__(self) -> None:
        self.tracer = TracerProvider()
        self.meter = MeterProvider()
        self.logger = LoggerProvider()
        self._there = (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider())
        sdk = (sdk_trace.TracerProvider, sdk_metrics.MeterProvider, sdk_logs.LoggerProvider)
        self.foreign = [
            signal for signal, found, kind in zip(SIGNALS, self._there, sdk, strict=True) if isinstance(found, kind)
        ]
        self._published = False
        self._spans = extras.SpanRelay()
        self._records = extras.LogRelay()
        self._metrics: sdk_metrics.MeterProvider | None = None
        self._reader = CollectionIntake(_into_nothing)
        self._readers: tuple[MetricReader, ...] = ()

    def publish(
        self, pipeline: Pipeline, receivers: Receivers, exported: Collection[Signal], shared: SharedMetrics | None
    ) -> None:
        """Sets the globals, once a process, or attaches to the providers that are there.

        A provider of someone else's outlives the openings: what is attached to it hands on to the present one's
        receivers, to the pipeline for the signals in `exported`, and metrics to `shared`.
        """
        if not self._published:
            self._published = True
            self._attach()
        self._spans.targets = (*receivers.span_processors, *((SpanIntake(pipeline),) * ("traces" in exported)))
        self._records.targets = (*receivers.log_processors, *((LogIntake(pipeline),) * ("logs" in exported)))
        if self._metrics is not None:
            self._reader.redirect(shared.take if shared is not None else _into_nothing)
            if shared is not None:
                shared.read = self._reader.collect_now
            before, self._readers = self._readers, receivers.metric_readers
            for reader in before:
                if reader not in self._readers:  # removing it ends it, and the application's own may stay
                    self._metrics.remove_metric_reader(reader)
            for reader in self._readers:
                if reader not in before:
                    self._metrics.add_metric_reader(reader)

    def close(self) -> None:
        """Lets nothing be recorded until the next opening."""
        self.tracer.tracing = self.meter.metering = self.logger.logging = None
        self._spans.targets = self._records.targets = ()
        self._reader.redirect(_into_nothing)

    def belongs_elsewhere(self, reader: MetricReader) -> bool:
        """Whether a reader has a provider already, and not through one of these."""
        return collects_from(reader) not in (None, self.meter) and reader not in self._readers

    def _attach(self) -> None:
        tracer, meter, log = self._there
        if isinstance(tracer, sdk_trace.TracerProvider):
            tracer.add_span_processor(SpanCorrelation())
            tracer.add_span_processor(self._spans)
        else:
            trace.set_tracer_provider(self.tracer)
        if isinstance(meter, sdk_metrics.MeterProvider):
            self._metrics = meter
            meter.add_metric_reader(self._reader)
        else:
            self.meter.publish()
        if isinstance(log, sdk_logs.LoggerProvider):
            log.add_log_record_processor(LogCorrelation())
            log.add_log_record_processor(self._records)
        else:
            _logs.set_logger_provider(self.logger)
