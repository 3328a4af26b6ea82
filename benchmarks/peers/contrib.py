"""OpenTelemetry's SDK and contrib instrumentations, set up in code as `opentelemetry-instrument` does."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from benchmarks.peers import Flush, Peer

SDK = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
LOGGING = "opentelemetry-instrumentation-logging"
LIBRARIES = ("opentelemetry-instrumentation-sqlalchemy", "opentelemetry-instrumentation-redis", LOGGING)


def start() -> Flush:
    flush = set_up_sdk()
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor().instrument()
    instrument_libraries()
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


def instrument_libraries() -> None:
    """SQLAlchemy, Redis and the logging module; the application has set the root logger's level itself."""
    from opentelemetry.instrumentation.logging import LoggingInstrumentor
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    SQLAlchemyInstrumentor().instrument()
    RedisInstrumentor().instrument()
    LoggingInstrumentor().instrument()


PEER = Peer(
    "OpenTelemetry, contrib",
    start,
    requirements=(*SDK, *LIBRARIES, "opentelemetry-instrumentation-fastapi"),
    lacks="durations of SQL statements and Redis commands, cache hits, waits for a connection, process and runtime"
    " metrics, request ids, the code's place of log lines, the server's own log lines; its HTTP names are the old ones",
)
