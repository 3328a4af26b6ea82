"""The micro-benchmarks of one implementation, in a process of its own: `python -m benchmarks.operations NAME`.

NAME is `bare` (the logging module alone), `sdk` (OpenTelemetry's SDK, its OTLP encoder and contrib's log handler) or
`otelkit`. Prints one JSON object: nanoseconds of each operation. Only the calling thread's CPU time counts, so that
what a worker thread does with the records meanwhile does not; samples are shorter than a batch, and flushed between.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import gc
import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

SAMPLES = 15
REPEATS = 400
BATCH = 512

LABELS: dict[str, Any] = {
    "http.request.method": "GET",
    "http.route": "/orders/{number}",
    "http.response.status_code": 200,
    "url.scheme": "http",
}


def attributes(number: int) -> dict[str, Any]:
    """12 attributes of a server span; three of them differ from one to the next."""
    return {
        **LABELS,
        "url.path": f"/orders/{number}",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "client.address": "127.0.0.1",
        "client.port": 1024 + number,
        "user_agent.original": "benchmark/1",
        "request.id": f"{number:032x}",
    }


def thread_ns(operation: Callable[[], object], repeats: int = REPEATS) -> float:
    """Nanoseconds of this thread's CPU for one call, without the garbage collector."""
    times = range(repeats)
    gc.collect()
    gc.disable()
    started = time.thread_time_ns()
    for _ in times:
        operation()
    elapsed = time.thread_time_ns() - started
    gc.enable()
    return elapsed / repeats


def sampled(operation: Callable[[], object], between: Callable[[], object]) -> float:
    """The least of many samples: what else the machine does only adds. What `between` does is not measured."""
    found = []
    for _ in range(SAMPLES):
        found.append(thread_ns(operation))
        between()
    return min(found)


def bare() -> dict[str, float]:
    """What the logging module itself costs."""
    logger = _logger()
    return {"log": sampled(lambda: logger.info("order %d read", 7), lambda: None)}


def sdk() -> dict[str, float]:
    """OpenTelemetry's own."""
    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    from benchmarks.peers.contrib import set_up_sdk

    logger = _logger()
    flush = set_up_sdk()
    LoggingInstrumentor().instrument()
    return {**_emitted(logger, flush), **_encoded(*_official_encoders())}


def otelkit() -> dict[str, float]:
    """otelkit, every default on."""
    import otelkit as kit
    from otelkit.config.settings import SIGNALS
    from otelkit.delivery.encode import Encoder

    logger = _logger()
    kit.bootstrap()
    encoder = Encoder({signal: {"service.name": "benchmark"} for signal in SIGNALS})
    encoded = _encoded(encoder.spans, encoder.logs, encoder.metrics)
    return {**_emitted(logger, lambda: kit.flush(30.0)), **encoded}


def _logger() -> logging.Logger:
    logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
    return logging.getLogger("shop")


def _emitted(logger: logging.Logger, flush: Callable[[], object]) -> dict[str, float]:
    from opentelemetry import metrics, trace

    tracer = trace.get_tracer("benchmark")
    meter = metrics.get_meter("benchmark")
    counter = meter.create_counter("benchmark.requests")
    histogram = meter.create_histogram("benchmark.duration", "s")
    given = attributes(7)

    def current() -> None:
        with tracer.start_as_current_span("GET /orders/{number}", attributes=given):
            pass

    return {
        "span": sampled(lambda: tracer.start_span("GET /orders/{number}", attributes=given).end(), flush),
        "current span": sampled(current, flush),
        "counter": sampled(lambda: counter.add(1, LABELS), lambda: None),
        "histogram": sampled(lambda: histogram.record(0.0042, LABELS), lambda: None),
        "log": sampled(lambda: logger.info("order %d read", 7), flush),
    }


Encode = Callable[[Any], object]


def _official_encoders() -> tuple[Encode, Encode, Encode]:
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return (
        lambda batch: encode_spans(batch).SerializeToString(),
        lambda batch: encode_logs(batch).SerializeToString(),
        lambda data: encode_metrics(data).SerializeToString(),
    )


def _encoded(spans: Encode, logs: Encode, metrics: Encode) -> dict[str, float]:
    """Encoding, a record: batches of the SDK's records, a new one each time, so that caches help as in real life."""
    made = _Records()

    def each(make: Callable[[int], tuple[Any, int]], encode: Encode) -> float:
        found = []
        for number in range(SAMPLES):
            batch, records = make(number * BATCH)
            found.append(thread_ns(lambda batch=batch: encode(batch), 1) / records)  # type: ignore[misc]
        return min(found)

    return {
        "encoded span": each(made.spans, spans),
        "encoded log": each(made.logs, logs),
        "encoded point": each(made.metrics, metrics),
    }


class _Records:
    """Batches of the SDK's own records."""

    def __init__(self) -> None:
        from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

        self._spans: list[ReadableSpan] = []
        self._logs: list[Any] = []
        keep_span, keep_log = self._spans.append, self._logs.append

        class KeepSpans(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                keep_span(span)

        class KeepLogs(LogRecordProcessor):
            def on_emit(self, log_record: Any) -> None:
                keep_log(log_record)

            def shutdown(self) -> None:
                """Holds nothing."""

            def force_flush(self, timeout_millis: int = 30000) -> bool:
                return True

        tracers, loggers = TracerProvider(), LoggerProvider()
        tracers.add_span_processor(KeepSpans())
        loggers.add_log_record_processor(KeepLogs())
        self._tracer = tracers.get_tracer("benchmark")
        self._logger = loggers.get_logger("benchmark")

    def spans(self, first: int) -> tuple[Any, int]:
        """A batch of ended spans with 12 attributes each."""
        self._spans.clear()
        for number in range(first, first + BATCH):
            self._tracer.start_span("GET /orders/{number}", attributes=attributes(number)).end()
        return self._spans[:], BATCH

    def logs(self, first: int) -> tuple[Any, int]:
        """A batch of log records with the attributes that the code's place gives."""
        from opentelemetry._logs import SeverityNumber

        self._logs.clear()
        for number in range(first, first + BATCH):
            self._logger.emit(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                body=f"order {number} read",
                attributes={
                    "code.file.path": "/srv/shop/app.py",
                    "code.function.name": "order",
                    "code.line.number": 42,
                    "request.id": f"{number:032x}",
                },
            )
        return self._logs[:], BATCH

    def metrics(self, first: int) -> tuple[Any, int]:
        """A collection: half of its points are of a counter, half of a histogram; 4 labels each."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        reader = InMemoryMetricReader()
        meter = MeterProvider(metric_readers=[reader]).get_meter("benchmark")
        counter, histogram = meter.create_counter("benchmark.requests"), meter.create_histogram("benchmark.duration")
        for number in range(BATCH // 2):
            labels = {**LABELS, "http.route": f"/route-{number}"}
            counter.add(number + 1, labels)
            for value in (1, 7, 42):
                histogram.record(value, labels)
        return reader.get_metrics_data(), BATCH


if __name__ == "__main__":
    print(json.dumps({"bare": bare, "sdk": sdk, "otelkit": otelkit}[sys.argv[1]]()))
