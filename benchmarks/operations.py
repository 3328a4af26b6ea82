"""The micro-benchmarks of one implementation, in a process of its own: `python -m benchmarks.operations NAME`.

NAME is `sdk` (OpenTelemetry's SDK, its OTLP encoder and contrib's log handler) or `otelkit`. Prints one JSON object:
nanoseconds of each operation. Only the calling thread's CPU time counts, so that what a worker thread does with the
records meanwhile does not; samples are shorter than a batch, and flushed between. The garbage collector is off.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import functools
import gc
import json
import logging
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.sinks.otlp import points_in

SAMPLES = 25
REPEATS = 400
"""Calls in a sample; fewer than a batch has records, so that no worker wakes in between."""
BATCH = 512

STATEMENTS: dict[str, str] = {
    "span": "tracer.start_span('GET /orders/{number}', attributes=attributes).end()",
    "current span": "with tracer.start_as_current_span('GET /orders/{number}', attributes=attributes): pass",
    "counter": "counter.add(1, labels)",
    "histogram": "histogram.record(0.0042, labels)",
    "declared counter": "declared_counter.add(1, method='GET', route='/orders/{number}', status=200, scheme='http')",
    "declared histogram": (
        "declared_histogram.record(0.0042, method='GET', route='/orders/{number}', status=200, scheme='http')"
    ),
    "bound counter": "bound_counter.add(1)",
    "bound histogram": "bound_histogram.record(0.0042)",
    "log": "logger.info('order %d read', 7)",
}
"""What is measured, by name. An implementation without a name's object (the SDK binds no labels) has no figure."""

RESOURCE = {"service.name": "benchmark"}
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


def sdk() -> dict[str, float]:
    """OpenTelemetry's own."""
    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    from benchmarks.peers.contrib import set_up_sdk

    logger = _logger()
    bare = _log_alone(logger)
    flush = set_up_sdk()
    LoggingInstrumentor().instrument()
    found = _timed({**_instruments(), "logger": logger}, flush)
    return {**found, "log": found["log"] - bare, **_encoded(_official_encoders(), _sdk_batches())}


def otelkit() -> dict[str, float]:
    """otelkit with the engine that its settings choose."""
    import otelkit as kit
    from otelkit.delivery.encode import Encoder

    logger = _logger()
    bare = _log_alone(logger)
    kit.bootstrap()
    # For another encoder than the worker's; what it encodes is the same.
    encoder = Encoder(dict.fromkeys(("traces", "logs"), RESOURCE))
    encoders: dict[str, Encode] = {
        "span": encoder.spans,
        "log": encoder.logs,
        "point": functools.partial(encoder.metrics, resource=RESOURCE),
    }
    found = _timed({**_instruments(), **_declared(kit), "logger": logger}, lambda: kit.flush(30.0))
    return {**found, "log": found["log"] - bare, **_encoded(encoders, _otelkit_batches(kit, Encoder))}


def _logger() -> logging.Logger:
    """A logger whose one handler does nothing: what the logging module itself costs."""
    logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
    return logging.getLogger("shop")


def _log_alone(logger: logging.Logger) -> float:
    return _timed({"logger": logger}, lambda: None)["log"]


def _instruments() -> dict[str, Any]:
    """What the statements use, from OpenTelemetry's API."""
    from opentelemetry import metrics, trace

    meter = metrics.get_meter("benchmark")
    return {
        "tracer": trace.get_tracer("benchmark"),
        "attributes": attributes(7),
        "counter": meter.create_counter("benchmark.requests"),
        "histogram": meter.create_histogram("benchmark.duration", "s"),
        "labels": LABELS,
    }


def _declared(kit: Any) -> dict[str, Any]:
    """What the statements use, from otelkit's API."""

    @kit.metrics.counter("declared.requests", unit="{request}")
    def counter(*, method: str, route: str, status: int, scheme: str) -> None:
        """Requests."""

    @kit.metrics.histogram("declared.duration", unit="s")
    def histogram(*, method: str, route: str, status: int, scheme: str) -> None:
        """Durations."""

    labels = {"method": "GET", "route": "/orders/{number}", "status": 200, "scheme": "http"}
    return {
        "declared_counter": counter,
        "declared_histogram": histogram,
        "bound_counter": counter.labels(**labels),
        "bound_histogram": histogram.labels(**labels),
    }


def _timed(names: Mapping[str, Any], flush: Callable[[], object]) -> dict[str, float]:
    """Nanoseconds of each statement whose names are there: the least of the samples, since what else the machine does
    only adds.
    """
    found = {}
    for key, statement in STATEMENTS.items():
        if _first_name(statement) not in names:
            continue
        timer = timeit.Timer(statement, timer=time.thread_time_ns, globals=dict(names))
        samples = []
        for _ in range(SAMPLES):
            gc.collect()
            samples.append(timer.timeit(REPEATS) / REPEATS)
            flush()
        found[key] = min(samples)
    return found


def _first_name(statement: str) -> str:
    return statement.removeprefix("with ").partition(".")[0]


# -- OTLP encoding, a record: new records in each batch, so that caches help as in real life

Encode = Callable[[Any], object]


def _encoded(encoders: Mapping[str, Encode], batches: Iterator[tuple[str, Any, int]]) -> dict[str, float]:
    samples: dict[str, list[float]] = {kind: [] for kind in encoders}
    for kind, batch, records in batches:
        encode = encoders[kind]
        gc.collect()
        gc.disable()
        started = time.thread_time_ns()
        encode(batch)
        samples[kind].append((time.thread_time_ns() - started) / records)
        gc.enable()
    return {f"encoded {kind}": min(found) for kind, found in samples.items()}


def _official_encoders() -> dict[str, Encode]:
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return {
        "span": lambda batch: encode_spans(batch).SerializeToString(),
        "log": lambda batch: encode_logs(batch).SerializeToString(),
        "point": lambda data: encode_metrics(data).SerializeToString(),
    }


def _sdk_batches() -> Iterator[tuple[str, Any, int]]:
    """Batches as the SDK's processors and readers hand them over: the kind, the batch, how many records."""
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
    tracer, logger = tracers.get_tracer("benchmark"), loggers.get_logger("benchmark")
    for number in range(SAMPLES):
        _make_spans(tracer, number * BATCH)
        yield "span", spans.get_finished_spans(), BATCH
        spans.clear()
        _make_logs(logger, number * BATCH)
        yield "log", logs.get_finished_logs(), BATCH
        logs.clear()
        reader = InMemoryMetricReader()
        _make_points(MeterProvider(metric_readers=[reader]).get_meter("benchmark"))
        yield "point", reader.get_metrics_data(), BATCH


def _otelkit_batches(kit: Any, encoder: Any) -> Iterator[tuple[str, Any, int]]:
    """Batches as otelkit's worker hands them to its encoder, caught there: whatever the engine makes them of."""
    from opentelemetry import metrics, trace
    from opentelemetry._logs import get_logger

    encode = {"span": encoder.spans, "log": encoder.logs, "point": encoder.metrics}
    caught: list[tuple[str, Any, int]] = []

    def spans(self: object, batch: Sequence[Any]) -> tuple[bytes, int]:
        caught.append(("span", batch, len(batch)))
        return b"", 0

    def logs(self: object, batch: Sequence[Any]) -> tuple[bytes, int]:
        caught.append(("log", batch, len(batch)))
        return b"", 0

    def points(self: object, data: Any, resource: Any) -> tuple[bytes, int]:
        encoded: tuple[bytes, int] = encode["point"](self, data, resource)
        caught.append(("point", data, points_in(encoded[0])))
        return b"", 0

    tracer, logger, meter = trace.get_tracer("benchmark"), get_logger("benchmark"), metrics.get_meter("benchmark")
    encoder.spans, encoder.logs, encoder.metrics = spans, logs, points
    try:
        for number in range(SAMPLES):
            _make_spans(tracer, number * BATCH)
            _make_logs(logger, number * BATCH)
            _make_points(meter)
            kit.flush(30.0)
            yield from caught
            caught.clear()
    finally:
        encoder.spans, encoder.logs, encoder.metrics = encode["span"], encode["log"], encode["point"]


def _make_spans(tracer: Any, first: int) -> None:
    """Ended spans with 12 attributes each."""
    for number in range(first, first + BATCH):
        tracer.start_span("GET /orders/{number}", attributes=attributes(number)).end()


def _make_logs(logger: Any, first: int) -> None:
    """Log records with the attributes that the code's place gives, and a request's id."""
    from opentelemetry._logs import SeverityNumber

    for number in range(first, first + BATCH):
        logger.emit(
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


def _make_points(meter: Any) -> None:
    """Half of the points of a counter, half of a histogram; 4 labels each."""
    counter, histogram = meter.create_counter("points.requests"), meter.create_histogram("points.duration", "s")
    for number in range(BATCH // 2):
        labels = {**LABELS, "http.route": f"/route-{number}"}
        counter.add(number + 1, labels)
        for value in (0.001, 0.007, 0.042):
            histogram.record(value, labels)


if __name__ == "__main__":
    print(json.dumps({"sdk": sdk, "otelkit": otelkit}[sys.argv[1]]()))
