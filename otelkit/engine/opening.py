"""One opening of telemetry in one process: the pipeline and the SDK's providers over it, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec

from opentelemetry.sdk import metrics
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, LogRecordProcessor
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    SpanLimits,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    TracerProvider,
    sampling,
)
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

from otelkit.config.settings import SIGNALS, Settings
from otelkit.delivery.pipeline import Pipeline
from otelkit.engine.intake import CollectionIntake, LogCorrelation, LogIntake, SpanCorrelation, SpanIntake
from otelkit.engine.seams import ForklessLoggerProvider, ForklessMeterProvider, ForklessTracerProvider
from otelkit.signals.suppression import SilenceableSampler


@dataclass(frozen=True, slots=True)
class Extras:
    """What else receives the records: the console tree, the pull endpoint, the test fixture's capture."""

    span_processors: tuple[SpanProcessor, ...] = ()
    log_processors: tuple[LogRecordProcessor, ...] = ()
    metric_readers: tuple[MetricReader, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """The providers of one opening; `pipeline` carries what they make."""

    pipeline: Pipeline
    tracer_provider: TracerProvider
    meter_provider: metrics.MeterProvider
    logger_provider: LoggerProvider


def open_providers(
    settings: Settings, resource: Mapping[str, object], pipeline: Pipeline, extras: Extras | None = None
) -> Opening:
    """Makes the SDK's providers for these settings.

    `resource` holds the attributes of the service and this process. Raises ConfigurationError for an id generator
    that is not installed.
    """
    extras = extras or Extras()
    sdk_resource = Resource(resource)  # type: ignore[arg-type]
    exports = {signal: "otlp" in settings.exporters(signal) for signal in ("traces", "metrics", "logs")}

    spans = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]
    span_processors = (
        SpanCorrelation(),
        *extras.span_processors,
        *((SpanIntake(pipeline),) * exports["traces"]),
    )
    for processor in span_processors:
        spans.add_span_processor(processor)
    tracer_provider = ForklessTracerProvider(
        sampler=sampler(settings),
        resource=sdk_resource,
        shutdown_on_exit=False,
        active_span_processor=spans,
        id_generator=_id_generator(settings.id_generator),
        span_limits=_span_limits(settings),
    )

    readers = list(extras.metric_readers)
    if exports["metrics"]:
        reader = CollectionIntake(
            pipeline.metrics, temporality=_temporality(settings), aggregation=_aggregation(settings)
        )
        pipeline.collect = reader.collect_now
        readers.append(reader)
    meter_provider = ForklessMeterProvider(
        metric_readers=readers,
        resource=sdk_resource,
        exemplar_filter=_exemplar_filter(settings.metrics_exemplar_filter),
        shutdown_on_exit=False,
    )

    logger_provider = ForklessLoggerProvider(
        resource=sdk_resource, shutdown_on_exit=False, log_record_limits=_log_limits(settings)
    )
    log_processors = (LogCorrelation(), *extras.log_processors, *((LogIntake(pipeline),) * exports["logs"]))
    for log_processor in log_processors:
        logger_provider.add_log_record_processor(log_processor)
    return Opening(pipeline, tracer_provider, meter_provider, logger_provider)


def sampler(settings: Settings) -> sampling.Sampler:
    """The sampler that OTEL_TRACES_SAMPLER names."""
    name = settings.traces_sampler
    roots = {"always_on": sampling.ALWAYS_ON, "always_off": sampling.ALWAYS_OFF}
    root = roots.get(name.removeprefix("parentbased_")) or sampling.TraceIdRatioBased(settings.traces_sampler_arg)
    return SilenceableSampler(sampling.ParentBased(root) if name.startswith("parentbased_") else root)


def _id_generator(name: str) -> IdGenerator:
    if name == "random":
        return RandomIdGenerator()
    for entry in entry_points(group="opentelemetry_id_generator", name=name):
        generator: IdGenerator = entry.load()()
        return generator
    return RandomIdGenerator()


def missing(settings: Settings) -> list[str]:
    """A sentence for everything that the settings name and that is not installed, with the remedy."""
    problems = []
    generator = settings.id_generator
    if generator != "random" and not entry_points(group="opentelemetry_id_generator", name=generator):
        problems.append(
            f"OTEL_PYTHON_ID_GENERATOR={generator!r}: no installed package offers it; install one that does or unset it"
        )
    protocols = {settings.otlp(signal, "PROTOCOL") for signal in SIGNALS if "otlp" in settings.exporters(signal)}
    if "grpc" in protocols and find_spec("grpc") is None:
        problems.append("OTEL_EXPORTER_OTLP_PROTOCOL='grpc' needs grpcio: pip install 'otelkit[grpc]'")
    return problems


def _span_limits(settings: Settings) -> SpanLimits:
    return SpanLimits(
        max_attributes=settings.attribute_count_limit,
        max_attribute_length=_unset(settings.attribute_value_length_limit),
        max_span_attributes=_or(settings.span_attribute_count_limit, settings.attribute_count_limit),
        max_span_attribute_length=_unset(
            _or(settings.span_attribute_value_length_limit, settings.attribute_value_length_limit)
        ),
        max_events=settings.span_event_count_limit,
        max_links=settings.span_link_count_limit,
        max_event_attributes=_or(settings.event_attribute_count_limit, settings.attribute_count_limit),
        max_link_attributes=_or(settings.link_attribute_count_limit, settings.attribute_count_limit),
    )


def _log_limits(settings: Settings) -> LogRecordLimits:
    return LogRecordLimits(
        max_attributes=settings.attribute_count_limit,
        max_attribute_length=_unset(settings.attribute_value_length_limit),
        max_log_record_attributes=_or(settings.logrecord_attribute_count_limit, settings.attribute_count_limit),
        max_log_record_attribute_length=_unset(
            _or(settings.logrecord_attribute_value_length_limit, settings.attribute_value_length_limit)
        ),
    )


def _or(own: int | None, general: int | None) -> int | None:
    return general if own is None else own


def _unset(limit: int | None) -> int:
    """The SDK reads its environment variables for None; the settings have done that already."""
    return SpanLimits.UNSET if limit is None else limit


def _temporality(settings: Settings) -> dict[type, object] | None:
    """The mapping of https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/#additional-environment-variable-configuration"""
    delta, cumulative = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
    if settings.metrics_temporality == "cumulative":
        return None
    observable = delta if settings.metrics_temporality == "delta" else cumulative
    return {
        metrics.Counter: delta,
        metrics.Histogram: delta,
        metrics.ObservableCounter: observable,
        metrics.UpDownCounter: cumulative,
        metrics.ObservableUpDownCounter: cumulative,
    }


def _aggregation(settings: Settings) -> dict[type, object] | None:
    if settings.metrics_histogram == "explicit_bucket_histogram":
        return None
    return {metrics.Histogram: ExponentialBucketHistogramAggregation()}


def _exemplar_filter(name: str) -> metrics.ExemplarFilter:
    filters: dict[str, metrics.ExemplarFilter] = {
        "always_on": metrics.AlwaysOnExemplarFilter(),
        "always_off": metrics.AlwaysOffExemplarFilter(),
        "trace_based": metrics.TraceBasedExemplarFilter(),
    }
    return filters[name]
