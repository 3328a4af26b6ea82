"""A real OTLP/HTTP receiver on loopback that decodes with opentelemetry-proto and keeps what it got."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelkit.delivery.compression import compression_of, decompressed
from otelkit.delivery.telling import STATUS_EVENT

_CLOSED_TIMEOUT_S = 5.0
_REQUESTS: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


def plain(value: AnyValue) -> Any:
    """An AnyValue as a Python value."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind)


def attributes(pairs: Any) -> dict[str, Any]:
    """KeyValues as a dict; fails on doubled keys."""
    found: dict[str, Any] = {}
    for pair in pairs:
        assert isinstance(pair, KeyValue)
        assert pair.key not in found, f"attribute {pair.key!r} twice"
        found[pair.key] = plain(pair.value)
    return found


@dataclass
class Received:
    """A span, log record or metric with the resource and scope it came under."""

    resource: dict[str, Any]
    scope: str


@dataclass
class ReceivedSpan(Received):
    span: Span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def attributes(self) -> dict[str, Any]:
        return attributes(self.span.attributes)

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def span_id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent_id(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def duration_s(self) -> float:
        return (self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1e9


@dataclass
class ReceivedLog(Received):
    record: LogRecord

    @property
    def body(self) -> Any:
        return plain(self.record.body)

    @property
    def attributes(self) -> dict[str, Any]:
        return attributes(self.record.attributes)


@dataclass
class ReceivedMetric(Received):
    metric: Metric

    @property
    def name(self) -> str:
        return self.metric.name

    @property
    def points(self) -> list[Any]:
        data = getattr(self.metric, str(self.metric.WhichOneof("data")))
        return list(data.data_points)


_Points = dict[tuple[Any, ...], list[tuple[int, float]]]


@dataclass
class _Read:
    """The points of one metric's name among the first `upto` metrics, by series."""

    points: _Points = field(default_factory=dict)
    upto: int = 0
    first: ReceivedMetric | None = None


@dataclass
class Answer:
    """How the sink answers one request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    after_s: float = 0.0
    reset: bool = False
    """Instead of an answer: the request is taken, and the connection reset."""


class Sink:
    """`with Sink() as sink:` listens on a free port; `sink.answer` may be replaced to answer otherwise than 200, and
    requests of more than `most_bytes` get 413.

    `logs` are all log records but what processes tell of their telemetry (`otelkit.status`), which is in `statuses`.
    `asked` has the path and the moment (time.monotonic()) of every request, whatever it was answered.
    """

    def __init__(self, port: int = 0) -> None:
        self.spans: list[ReceivedSpan] = []
        self.logs: list[ReceivedLog] = []
        self.statuses: list[ReceivedLog] = []
        self.metrics: list[ReceivedMetric] = []
        self.requests: list[tuple[str, dict[str, str], int]] = []
        self.asked: list[tuple[str, float]] = []
        self.answer: Callable[[str], Answer] = lambda path: Answer()
        self.most_bytes = sys.maxsize
        self.too_large = 0
        self._read: dict[str, _Read] = {}
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._connections: set[socket.socket] = set()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                sink.asked.append((self.path, time.monotonic()))
                answer = sink.answer(self.path)
                if len(body) > sink.most_bytes:
                    sink.too_large += 1
                    answer = Answer(413)
                if answer.after_s:
                    sink._released.wait(answer.after_s)
                if answer.status == 200:
                    sink._take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                if answer.reset:
                    # An end that lingers for no time at all is a reset (RST), and no orderly close (FIN).
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is part of many tests."""

            def process_request(self, request: Any, client_address: Any) -> None:
                with sink._changed:
                    sink._connections.add(request)
                super().process_request(request, client_address)

            def shutdown_request(self, request: Any) -> None:
                super().shutdown_request(request)
                with sink._changed:
                    sink._connections.discard(request)
                    sink._changed.notify_all()

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with self._changed:  # a client that keeps its connection gets no answer any more, and no socket is left open
            for connection in self._connections:
                with contextlib.suppress(OSError):  # it has gone already
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, _CLOSED_TIMEOUT_S)

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        encoding = headers.get("content-encoding", "none")
        assert compression_of(body) == encoding
        body = decompressed(body)
        request = _REQUESTS[path]()
        request.ParseFromString(body)
        with self._changed:
            self.requests.append((path, headers, len(body)))
            if isinstance(request, ExportTraceServiceRequest):
                for part in request.resource_spans:
                    resource = attributes(part.resource.attributes)
                    for scoped in part.scope_spans:
                        self.spans += [ReceivedSpan(resource, scoped.scope.name, span) for span in scoped.spans]
            elif isinstance(request, ExportLogsServiceRequest):
                for logs in request.resource_logs:
                    resource = attributes(logs.resource.attributes)
                    for scoped_logs in logs.scope_logs:
                        for record in scoped_logs.log_records:
                            received = ReceivedLog(resource, scoped_logs.scope.name, record)
                            (self.statuses if record.event_name == STATUS_EVENT else self.logs).append(received)
            elif isinstance(request, ExportMetricsServiceRequest):
                for collected in request.resource_metrics:
                    resource = attributes(collected.resource.attributes)
                    for scoped_metrics in collected.scope_metrics:
                        self.metrics += [
                            ReceivedMetric(resource, scoped_metrics.scope.name, metric)
                            for metric in scoped_metrics.metrics
                        ]
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], what: str, deadline_s: float = 15.0) -> None:
        """Waits until a condition over what was received holds; fails with what was received instead."""
        end = time.monotonic() + deadline_s
        with self._changed:
            while not condition():
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    if condition():
                        return
                    raise AssertionError(
                        f"{what} did not arrive in {deadline_s:g} s; spans: {[s.name for s in self.spans]},"
                        f" logs: {[log.body for log in self.logs]}, metrics: {sorted({m.name for m in self.metrics})}"
                    )

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]

    def total(self, name: str, **labels: Any) -> float:
        """The newest value of a sum (or a histogram's count), over all series with these labels."""
        wanted = {key.replace("__", "."): value for key, value in labels.items()}
        return sum(
            values[-1] for (_, found), values in self.series(name).items() if wanted.items() <= dict(found).items()
        )

    def series(self, name: str) -> dict[tuple[Any, ...], list[float]]:
        """The values of a sum or a gauge, or a histogram's counts, by series (instance id and labels), oldest first.

        Of a service's processes one may send a little later what it collected a little earlier than another.
        """
        with self._changed:
            found = self._points(name)
            return {key: [value for _, value in sorted(values, key=itemgetter(0))] for key, values in found.items()}

    def _points(self, name: str) -> _Points:
        """Reads each metric once: who waits for a value asks again whenever something came."""
        read = self._read.get(name)
        if read is None or (read.upto and (read.upto > len(self.metrics) or read.first is not self.metrics[0])):
            read = self._read[name] = _Read()  # not yet, or a test has thrown away what came before
        for metric in self.metrics[read.upto :]:
            for point in metric.points if metric.name == name else ():
                labels = tuple(sorted(attributes(point.attributes).items(), key=str))
                values = read.points.setdefault((metric.resource["service.instance.id"], labels), [])
                if hasattr(point, "bucket_counts"):
                    value = point.count
                else:
                    value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
                values.append((point.time_unix_nano, value))
        read.upto, read.first = len(self.metrics), next(iter(self.metrics), None)
        return read.points

    def seconds(self, name: str, **labels: Any) -> float:
        """The newest sum of a histogram, over all series with these labels."""
        wanted = {key.replace("__", "."): value for key, value in labels.items()}
        sums: dict[tuple[Any, ...], float] = {}
        with self._changed:
            for metric in self.metrics:
                for point in metric.points if metric.name == name else ():
                    found = attributes(point.attributes)
                    if wanted.items() <= found.items():
                        key = (metric.resource["service.instance.id"], *sorted(found.items(), key=str))
                        sums[key] = max(point.sum, sums.get(key, 0.0))
        return sum(sums.values())

    def one_series(self, name: str) -> list[float]:
        """The values of a metric that has one series, which never falls."""
        found = self.series(name)
        assert len(found) == 1, found
        (values,) = found.values()
        assert values == sorted(values), f"{name} fell: {values}"
        return values
