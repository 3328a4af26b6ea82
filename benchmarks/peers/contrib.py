"""OpenTelemetry's SDK and contrib instrumentations, set up in code as `opentelemetry-instrument` does."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from collections.abc import Collection

from benchmarks.peers import Flush, Peer, Sends

SDK = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
LIBRARIES = tuple(f"opentelemetry-instrumentation-{name}" for name in ("sqlalchemy", "redis", "celery", "logging"))


def start(libraries: Collection[str]) -> Flush:
    flush = set_up_sdk()
    if "fastapi" in libraries:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor().instrument()
    instrument(libraries)
    return flush


def set_up_sdk() -> Flush:
    """Three signals over OTLP/HTTP, batched; endpoint, service name and the rest come from OTEL_*."""
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    meters = MeterProvider(metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())])
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    _logs.set_logger_provider(loggers)

    def flush() -> None:
        for provider in (tracers, loggers, meters):
            provider.force_flush(30_000)

    return flush


def instrument(libraries: Collection[str]) -> None:
    """Everything but FastAPI; the application has set the root logger's level itself."""
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.instrumentation.logging import LoggingInstrumentor
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    instrumentors = {
        "sqlalchemy": SQLAlchemyInstrumentor,
        "redis": RedisInstrumentor,
        "celery": CeleryInstrumentor,
        "logging": LoggingInstrumentor,
    }
    for name in libraries:
        if name in instrumentors:
            instrumentors[name]().instrument()


PEER = Peer(
    "OpenTelemetry, contrib",
    start,
    # A request's span and one for each of its two ASGI messages; the statement's and one for its connection.
    sends={"ping": Sends(3, 0), "order": Sends(6, 1), "task": Sends(3, 1)},
    package="opentelemetry-sdk",
    requirements=(*SDK, *LIBRARIES, "opentelemetry-instrumentation-fastapi"),
    lacks="durations of SQL statements and Redis commands, cache hits, waits for a connection, process and runtime"
    " metrics, request ids, the code's place of log lines, the server's own log lines; its HTTP names are the old ones",
)
