"""What a shop sends: requests of every kind that the page shows in a way of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.viewer.backend import Backend, span, spans_request

SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
PRODUCER, CONSUMER = Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER
CHECKOUT, REPORT, LARGE, BROKEN, PLAIN = 0xC0, 0xA0, 0xB16, 0xBAD, 0x1000
ORDERS = "SELECT id, total FROM orders WHERE id = ?"
STATEMENT = "SELECT name, price FROM items WHERE id = ?"
STACK = """Traceback (most recent call last):
  File "/app/.venv/lib/python3.12/site-packages/starlette/routing.py", line 73, in app
    response = await func(request)
  File "/app/shop/payment.py", line 31, in charge
    raise PaymentDeclined("card declined")
shop.payment.PaymentDeclined: card declined
"""
LARGE_SPANS = 5_000
BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]


def hex_trace(number: int) -> str:
    """A trace's id as the page shows it."""
    return f"{number:032x}"


def hex_span(number: int) -> str:
    """A span's id as the page shows it."""
    return f"{number:016x}"


def send_shop(backend: Backend) -> None:
    """Sends it all, of the last minutes, and waits until it is kept."""
    now = time.time()
    spans = 0
    for sent in (*_checkout(now - 20), *_report(now - 40), *_broken(now - 50), *_plain(now), *_large(now - 60)):
        backend.send(sent)
        spans += sum(len(scope.spans) for one in sent.resource_spans for scope in one.scope_spans)
    backend.send(_logs(now - 20))
    for step in range(12):
        backend.send(_metrics(now - 60 * (11 - step), step))
    backend.wait_for_rows(spans=spans, logs=9, points=30)


def http(route: str, method: str = "GET", status: int = 200) -> dict[str, Any]:
    """The attributes of an answered request."""
    return {"http__request__method": method, "http__route": route, "http__response__status_code": status}


def _query(trace: int, number: int, **more: Any) -> Span:
    return span("SELECT", trace=trace, number=number, kind=CLIENT, db__system__name="postgresql", **more)


def _checkout(start: float) -> Iterator[ExportTraceServiceRequest]:
    """A request that fails, and the task that it had sent before: three services, an exception, a wait in a queue."""

    def at(name: str, number: int, parent: int, after_ms: float, duration_ms: float, **more: Any) -> Span:
        start_s = start + after_ms / 1_000
        return span(
            name, trace=CHECKOUT, number=number, parent=parent, start_s=start_s, duration_ms=duration_ms, **more
        )

    queue = {"messaging__system": "celery", "messaging__destination__name": "orders"}
    root = at("POST /checkout", 1, 0, 0, 240, kind=SERVER, error=True, **http("/checkout", "POST", 500))
    root.status.message = "PaymentDeclined: card declined"
    told = root.events.add(name="exception", time_unix_nano=int((start + 0.2) * 1e9))
    for key, value in (("type", "shop.payment.PaymentDeclined"), ("message", "card declined"), ("stacktrace", STACK)):
        told.attributes.add(key=f"exception.{key}").value.string_value = value
    cart = root.events.add(name="cart.loaded", time_unix_nano=int((start + 0.01) * 1e9))
    cart.attributes.add(key="cart.items").value.int_value = 4
    place = at("place_order", 2, 1, 10, 200)
    load = _query(CHECKOUT, 3, parent=2, start_s=start + 0.02, duration_ms=25, db__query__text=ORDERS)
    quote = at("POST", 4, 2, 60, 90, kind=CLIENT, server__address="pricing")
    send = at("send order.confirm", 5, 2, 170, 5, kind=PRODUCER, **queue)
    yield spans_request(root, place, load, quote, send, service_version="1.4.2")
    yield spans_request(at("POST /quote", 6, 4, 70, 70, kind=SERVER, **http("/quote", "POST")), service="pricing")
    run = at("run order.confirm", 7, 5, 300, 110, kind=CONSUMER, **queue)
    link = run.links.add(trace_id=REPORT.to_bytes(16, "big"), span_id=(1).to_bytes(8, "big"))
    link.attributes.add(key="reason").value.string_value = "batch"
    yield spans_request(run, service="worker")


def _report(start: float) -> Iterator[ExportTraceServiceRequest]:
    """One query for each of 37 rows."""
    root = span("GET /report", trace=REPORT, number=1, start_s=start, duration_ms=420, kind=SERVER, **http("/report"))
    yield spans_request(
        root,
        *(
            _query(
                REPORT,
                2 + number,
                parent=1,
                start_s=start + 0.02 + number * 0.01,
                duration_ms=6,
                db__query__text=STATEMENT,
            )
            for number in range(37)
        ),
    )


def _broken(start: float) -> Iterator[ExportTraceServiceRequest]:
    """A trace whose spans name a parent that never came, and each other."""
    yield spans_request(
        span("lost child", trace=BROKEN, number=1, parent=99, start_s=start, duration_ms=30),
        span("circle a", trace=BROKEN, number=2, parent=3, start_s=start + 0.005, duration_ms=10),
        span("circle b", trace=BROKEN, number=3, parent=2, start_s=start + 0.006, duration_ms=8),
        service="odd",
    )


def _plain(now: float) -> Iterator[ExportTraceServiceRequest]:
    """Ordinary requests of the last ten minutes."""
    routes = ("/orders/{id}", "/orders", "/items")
    yield spans_request(
        *(
            span(
                f"GET {routes[number % 3]}",
                trace=PLAIN + number,
                number=1,
                start_s=now - 70 - number * 8,
                duration_ms=5 + number % 7 * 12,
                kind=SERVER,
                **http(routes[number % 3]),
            )
            for number in range(60)
        )
    )


def _large(start: float) -> Iterator[ExportTraceServiceRequest]:
    """A trace of 5,000 spans, a tree of ten at each node."""
    yield spans_request(
        span("import catalogue", trace=LARGE, number=1, start_s=start, duration_ms=5_000),
        *(
            span(
                f"item {number}",
                trace=LARGE,
                number=number,
                parent=max(1, number // 10),
                start_s=start + number / 1_000,
                duration_ms=900 / number + 0.2,
            )
            for number in range(2, LARGE_SPANS + 1)
        ),
        service="importer",
    )


def _logs(start: float) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    one = request.resource_logs.add()
    one.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = one.scope_logs.add()
    scope.scope.name = "shop.orders"
    lines = [(9, "INFO", f"order {4711 + n} accepted", n) for n in range(6)]
    lines += [(13, "WARN", "stock is low", 1), (17, "ERROR", "card declined", 1), (5, "DEBUG", "cache miss", 3)]
    for number, (severity, name, body, span_number) in enumerate(lines):
        record = LogRecord(time_unix_nano=int((start + number * 0.02) * 1e9), severity_number=severity)  # type: ignore[arg-type]
        record.severity_text = name
        record.body.string_value = body
        if span_number:
            record.trace_id, record.span_id = CHECKOUT.to_bytes(16, "big"), span_number.to_bytes(8, "big")
        record.attributes.add(key="thread.name").value.string_value = "MainThread"
        scope.log_records.append(record)
    return request


def _metrics(time_s: float, step: int) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    one = request.resource_metrics.add()
    one.resource.attributes.add(key="service.name").value.string_value = "shop"
    metrics = one.scope_metrics.add().metrics
    start_ns, time_ns = int((time_s - 60 * step - 60) * 1e9), int(time_s * 1e9)
    cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE

    duration = metrics.add(name="http.server.request.duration", unit="s", description="Duration of HTTP requests.")
    duration.histogram.aggregation_temporality = cumulative
    for route, factor in (("/orders", 1), ("/checkout", 3)):
        counts = [(step + 1) * n * factor for n in (0, 4, 9, 14, 8, 5, 2, 1, 0, 0)]
        point = duration.histogram.data_points.add(
            start_time_unix_nano=start_ns,
            time_unix_nano=time_ns,
            count=sum(counts),
            sum=sum(counts) * 0.06,
            explicit_bounds=BOUNDS,
            bucket_counts=counts,
        )
        point.attributes.add(key="http.route").value.string_value = route
        exemplar = point.exemplars.add(time_unix_nano=time_ns - 1_000_000_000, as_double=0.24)
        exemplar.trace_id, exemplar.span_id = CHECKOUT.to_bytes(16, "big"), (1).to_bytes(8, "big")

    orders = metrics.add(name="orders.placed", unit="{order}", description="Orders accepted.")
    orders.sum.aggregation_temporality = cumulative
    orders.sum.is_monotonic = True
    for plan, rate in (("free", 60), ("pro", 240)):
        number = orders.sum.data_points.add(
            start_time_unix_nano=start_ns, time_unix_nano=time_ns, as_int=rate * (step + 1)
        )
        number.attributes.add(key="plan").value.string_value = plan

    memory = metrics.add(name="process.memory.usage", unit="By")
    memory.gauge.data_points.add(time_unix_nano=time_ns, as_int=(200 + step) << 20)
    return request
