"""One opening of telemetry in one process: the engine in front of the pipeline, made from the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import NamedTuple

from opentelemetry.sdk import metrics
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, LogRecordProcessor
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    SpanLimits,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    sampling,
)
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

from otelkit.config.settings import SIGNALS, Settings
from otelkit.delivery.compression import zstd_module
from otelkit.delivery.pipeline import Pipeline
from otelkit.engine.intake import CollectionIntake, LogCorrelation, LogIntake, SpanCorrelation, SpanIntake
from otelkit.engine.logs import Logging
from otelkit.engine.metering import Metering
from otelkit.engine.seams import ForklessLoggerProvider, ForklessMeterProvider, ForklessTracerProvider, enabled_sdk
from otelkit.engine.sharing import SharedMetrics
from otelkit.engine.tracing import Tracing
from otelkit.signals.suppression import FollowsParent, SilenceableSampler


class Extras(NamedTuple):
    """What there is beside the settings: who else receives the records (the console tree, the pull endpoint, the test
    fixture's capture, the application's own processors), and what of the application's decides in a setting's place.
    """

    span_processors: tuple[SpanProcessor, ...] = ()
    log_processors: tuple[LogRecordProcessor, ...] = ()
    metric_readers: tuple[MetricReader, ...] = ()
    views: tuple[View, ...] = ()
    sampler: sampling.Sampler | None = None
    ids: IdGenerator | None = None
    limits: SpanLimits | None = None


class Opening(NamedTuple):
    """What the process's providers work with from now on."""

    tracing: Tracing
    metering: Metering
    logging: Logging


def open_engine(
    settings: Settings,
    resource: Mapping[str, object],
    pipeline: Pipeline,
    extras: Extras | None = None,
    shared: SharedMetrics | None = None,
) -> Opening:
    """Makes one opening's engine, otelkit's own or the SDK's (OTELKIT_ENGINE), in front of the pipeline.

    `resource` holds the attributes of the service and this process; `shared` takes the metrics, where any are exported.
    """
    extras = extras or Extras()
    sdk_resource = Resource(resource)  # type: ignore[arg-type]
    with enabled_sdk():
        return Opening(
            _tracing(settings, sdk_resource, pipeline, extras),
            _metering(settings, sdk_resource, pipeline, extras, shared),
            _logging(settings, sdk_resource, pipeline, extras),
        )


def _tracing(settings: Settings, resource: Resource, pipeline: Pipeline, extras: Extras) -> Tracing:
    exported = "otlp" in settings.exporters("traces")
    # Around the application's own sampler too: below an excluded URL nobody is asked.
    sampler_ = SilenceableSampler(extras.sampler) if extras.sampler is not None else sampler(settings)
    limits = extras.limits if extras.limits is not None else _span_limits(settings)
    ids = extras.ids if extras.ids is not None else _id_generator(settings.id_generator)
    if settings.engine == "otelkit":
        return Tracing(
            resource=resource,
            sampler=sampler_,
            limits=limits,
            ids=ids,
            processors=extras.span_processors,
            put=pipeline.spans.put if exported else None,
            began=pipeline.recorder.began if exported and pipeline.recorder is not None else None,
            flush=_flush(pipeline) if exported else None,
        )
    spans = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]
    for processor in (SpanCorrelation(), *extras.span_processors, *((SpanIntake(pipeline),) * exported)):
        spans.add_span_processor(processor)
    provider = ForklessTracerProvider(
        sampler=sampler_,
        resource=resource,
        shutdown_on_exit=False,
        active_span_processor=spans,
        id_generator=ids,
        span_limits=limits,
    )
    return Tracing(resource=resource, sampler=sampler_, limits=limits, ids=ids, provider=provider)


def _logging(settings: Settings, resource: Resource, pipeline: Pipeline, extras: Extras) -> Logging:
    exported = "otlp" in settings.exporters("logs")
    limits = _log_limits(settings)

    def make_sdk() -> LoggerProvider:
        with enabled_sdk():
            provider = ForklessLoggerProvider(resource=resource, shutdown_on_exit=False, log_record_limits=limits)
        for processor in (LogCorrelation(), *extras.log_processors, *((LogIntake(pipeline),) * exported)):
            provider.add_log_record_processor(processor)
        return provider

    return Logging(
        resource=resource,
        limits=limits,
        put=pipeline.logs.put if exported else None,
        make_sdk=make_sdk,
        flush=_flush(pipeline) if exported else None,
        long=settings.engine == "sdk" or bool(extras.log_processors),
    )


def _flush(pipeline: Pipeline) -> Callable[[int], bool]:
    return lambda timeout_millis: pipeline.flush(timeout_millis / 1000).ok


def _metering(
    settings: Settings, resource: Resource, pipeline: Pipeline, extras: Extras, shared: SharedMetrics | None
) -> Metering:
    readers = list(extras.metric_readers)
    if shared is not None:
        readers.append(collection_reader(settings, shared))
    provider = ForklessMeterProvider(
        resource=resource,
        exemplar_filter=_exemplar_filter(settings.metrics_exemplar_filter),
        shutdown_on_exit=False,
        views=extras.views,
    )
    return Metering(
        resource=resource,
        provider=provider,
        readers=readers,
        views=extras.views,
        lean=settings.engine == "otelkit" and settings.metrics_exemplar_filter != "always_on",
        exemplars=settings.metrics_exemplar_filter == "trace_based",
        begun=pipeline.start,
    )


def collection_reader(settings: Settings, shared: SharedMetrics) -> MetricReader:
    """The reader that `shared` collects with, as the settings want sums and histograms to be."""
    reader = CollectionIntake(shared.take, temporality=_temporality(settings), aggregation=_aggregation(settings))
    shared.read = reader.collect_now
    return reader


def sampler(settings: Settings) -> sampling.Sampler:
    """The sampler that OTEL_TRACES_SAMPLER names."""
    name = settings.traces_sampler
    roots = {"always_on": sampling.ALWAYS_ON, "always_off": sampling.ALWAYS_OFF}
    root = roots.get(name.removeprefix("parentbased_")) or sampling.TraceIdRatioBased(settings.traces_sampler_arg)
    return SilenceableSampler(FollowsParent(root) if name.startswith("parentbased_") else root)


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
    if any(settings.otlp(signal, "COMPRESSION") == "zstd" for signal in SIGNALS):
        if "grpc" in protocols:
            problems.append("OTEL_EXPORTER_OTLP_COMPRESSION='zstd' is for http/protobuf; over gRPC it is gzip")
        elif zstd_module() is None:
            problems.append(
                "OTEL_EXPORTER_OTLP_COMPRESSION='zstd' needs zstd, gzip is used: pip install 'otelkit[zstd]'"
            )
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
