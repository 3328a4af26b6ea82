"""Other telemetry in the same process: nothing is recorded twice, no trace breaks, and it is said who is there."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.contrib import needs_contrib, pretend
from tests.support.process import Finished, run_python
from tests.support.sink import Sink
from tests.support.slow import slow

INTERNAL, SERVER, CLIENT = 1, 2, 3
UNSET, FAILED = 0, 2
APP = """
import json, logging, os, sys
import otelkit

def serve():
    import socket, threading, time, uvicorn
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    import http.client
    for path in ("/orders/7", "/fails"):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", path)
        connection.getresponse().read()
        connection.close()
    server.should_exit = True
    thread.join()

def make():
    from fastapi import FastAPI
    from sqlalchemy import create_engine, text
    app, engine = FastAPI(), create_engine("sqlite://")

    @app.get("/orders/{order_id}")
    def order(order_id: int):
        with engine.connect() as connection, otelkit.span("price.quote"):
            connection.execute(text("SELECT 1"))
        logging.getLogger("shop").warning("order %s", order_id)
        return order_id

    @app.get("/fails")
    def fails():
        raise LookupError("no such order")

    return app
"""


def run(folder: Path, sink: Sink, source: str, **environ: str) -> Finished:
    """Runs a program that begins with `APP`."""
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_SERVICE_NAME": "shop"}
    return run_python(APP + source, cwd=folder, environ={**settings, **environ}, deadline_s=60)


def check(sink: Sink) -> None:
    """Each request is one trace with one span a thing; the log line and the exception are one record each."""
    tree = sorted((span.name, parent_name(sink, span)) for span in sink.spans)
    assert tree == [
        ("GET /fails", ""),
        ("GET /orders/{order_id}", ""),
        ("SELECT", "price.quote"),
        ("price.quote", "GET /orders/{order_id}"),
    ]
    kinds = {span.name: (span.span.kind, span.span.status.code) for span in sink.spans}
    assert kinds == {
        "GET /fails": (SERVER, FAILED),
        "GET /orders/{order_id}": (SERVER, UNSET),
        "SELECT": (CLIENT, UNSET),
        "price.quote": (INTERNAL, UNSET),
    }
    order, fails = sink.named("GET /orders/{order_id}")[0].attributes, sink.named("GET /fails")[0].attributes
    assert (order["http.route"], order["http.response.status_code"]) == ("/orders/{order_id}", 200)
    assert (fails["http.response.status_code"], fails["error.type"]) == (500, "LookupError")
    assert sink.total("http.server.request.duration") == 2
    assert sink.total("http.server.request.duration", http__route="/fails", error__type="LookupError") == 1
    assert sink.total("db.client.operation.duration", db__operation__name="SELECT") == 1
    (line,) = [log for log in sink.logs if log.body == "order 7"]
    assert line.record.trace_id.hex() == sink.named("GET /orders/{order_id}")[0].trace_id
    (error,) = [log for log in sink.logs if "exception.stacktrace" in log.attributes]
    assert error.attributes["exception.type"] == "LookupError"


def parent_name(sink: Sink, span: Any) -> str:
    """The name of the span above; empty for a root."""
    found = [other.name for other in sink.spans if other.span_id == span.parent_id]
    return found[0] if found else ""


@contextmanager
def sentrys_server() -> Iterator[tuple[str, list[bytes]]]:
    """A receiver of Sentry's envelopes: its DSN, and what came."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://key@127.0.0.1:{server.server_port}/1", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


SENTRY = "import sentry_sdk\nsentry_sdk.init(os.environ['DSN'], traces_sample_rate={rate}, _experiments={{}})\n"


@needs_contrib("urllib3")
@pytest.mark.parametrize("rate", [1.0, *slow(None)], ids=["with-traces", "errors"])
@pytest.mark.parametrize("first", ["sentry", *slow("otelkit")])
def test_sentry_beside_otelkit(tmp_path: Path, sink: Sink, first: str, rate: float | None) -> None:
    """Each gets its own of both requests, in either order; what Sentry sends is no span, with contrib's urllib3 too."""
    init = SENTRY.format(rate=rate)
    start = init + "otelkit.bootstrap()\n" if first == "sentry" else "otelkit.bootstrap()\n" + init
    source = f"""
{start}
app = make()
serve()
import sentry_sdk
sentry_sdk.flush(10)
assert otelkit.flush().ok
print(json.dumps(otelkit.status()["beside"]["sentry-sdk"]))
"""
    with sentrys_server() as (dsn, got):
        finished = run(tmp_path, sink, source, DSN=dsn, OTELKIT_INSTRUMENT_URLLIB3="contrib")
    check(sink)
    found = json.loads(finished.out)
    note = "its own traces are on: each records the requests for itself" if rate else "errors"
    assert (found["state"], found["note"]) == ("active", note)
    if first == "sentry":
        assert f"; beside sentry-sdk {found['version']}=active ({note})" in finished.err
    assert b"no such order" in b"".join(got)


OWN = """
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

def providers():
    global spans, records
    spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracer, log = TracerProvider(), LoggerProvider()
    tracer.add_span_processor(SimpleSpanProcessor(spans))
    log.add_log_record_processor(SimpleLogRecordProcessor(records))
    trace.set_tracer_provider(tracer)
    metrics.set_meter_provider(MeterProvider())
    _logs.set_logger_provider(log)
    from opentelemetry.instrumentation.logging.handler import LoggingHandler
    logging.getLogger().addHandler(LoggingHandler(logger_provider=log))
"""


@needs_contrib("fastapi", "logging")
def test_an_application_with_opentelemetry_of_its_own(tmp_path: Path, sink: Sink) -> None:
    """Its providers, its FastAPI instrumentation and its logging handler: otelkit attaches, its exporters and ours get
    each thing once.
    """
    source = f"""
{OWN}
providers()
otelkit.bootstrap()
app = make()
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
FastAPIInstrumentor.instrument_app(app)
serve()
assert otelkit.flush().ok
print(sorted(span.name for span in spans.get_finished_spans()))
print([found.log_record.body for found in records.get_finished_logs()].count("order 7"))
print(otelkit.status()["foreign_providers"])
"""
    finished = run(tmp_path, sink, source)
    check(sink)
    assert finished.out.splitlines() == [
        "['GET /fails', 'GET /orders/{order_id}', 'SELECT', 'price.quote']",
        "1",
        "['traces', 'metrics', 'logs']",
    ]


@pytest.mark.slow
@needs_contrib("redis")
@pytest.mark.parametrize("first", ["application", "otelkit"])
def test_an_instrumentation_that_the_application_switches_on_itself(tmp_path: Path, sink: Sink, first: str) -> None:
    """contrib's keeps the library where it came first, and does nothing where otelkit did; the command is one span."""
    theirs = "from opentelemetry.instrumentation.redis import RedisInstrumentor\nRedisInstrumentor().instrument()\n"
    ours = "otelkit.bootstrap('shop')\n"
    source = f"""
{theirs + ours if first == "application" else ours + theirs}
import redis
with otelkit.span("outer"):
    try:
        redis.Redis(port=1).get("key")
    except redis.ConnectionError:
        pass
print(json.dumps(otelkit.status()["libraries"]["redis"]))
"""
    finished = run(tmp_path, sink, source)
    (command,) = [span for span in sink.spans if span.name != "outer"]
    assert parent_name(sink, command) == "outer"
    found = json.loads(finished.out)
    if first == "application":
        assert command.scope == "opentelemetry.instrumentation.redis"
        assert (found["choice"], found["reason"]) == ("contrib", "the application has switched it on")
        assert "redis=contrib (the application has switched it on)" in finished.err
    else:
        assert command.scope == "otelkit.redis"
        assert found["choice"] == "otelkit"
        assert "RedisInstrumentor().instrument() does nothing: otelkit records redis already" in finished.err


DDTRACE = """
from opentelemetry import trace

class TracerProvider(trace.TracerProvider):
    def get_tracer(self, *args, **kwargs):
        return trace.NoOpTracer()
"""


@pytest.mark.parametrize("how", ["installed", "provider", *slow("absent", "active")])
def test_ddtrace_is_told_of(tmp_path: Path, sink: Sink, how: str) -> None:
    """Absent, installed, or at work; and where it has taken the spans for itself (DD_TRACE_OTEL_ENABLED) a WARNING says
    so. A package of that name stands for it: the real one is 70 MB.
    """
    if how != "absent":
        package = tmp_path / "ddtrace"
        package.mkdir()
        (package / "__init__.py").write_text(DDTRACE)
        (package / "auto.py").write_text("")
        pretend(tmp_path, "ddtrace", "4.16.0")
    begin = {"active": "import ddtrace.auto", "provider": "import ddtrace, ddtrace.auto"}.get(how, "")
    if how == "provider":
        begin += "\nddtrace.trace.set_tracer_provider(ddtrace.TracerProvider())"
    source = f"""
sys.path.insert(0, os.getcwd())
{begin}
otelkit.bootstrap()
with otelkit.span("one"):
    pass
otelkit.flush()
print(json.dumps(otelkit.status()["beside"]["ddtrace"]))
"""
    finished = run(tmp_path, sink, source)
    found = json.loads(finished.out)
    assert found["state"] == {"provider": "active"}.get(how, how)
    assert found["version"] == (None if how == "absent" else "4.16.0")
    line = "; beside ddtrace 4.16.0=active (it records the libraries for itself too)"
    assert (line in finished.err) is (how in ("active", "provider"))
    assert ("otelkit exports no traces. Unset DD_TRACE_OTEL_ENABLED" in finished.err) is (how == "provider")
    assert [span.name for span in sink.spans] == ([] if how == "provider" else ["one"])


def test_the_other_distribution_is_told_of(tmp_path: Path, sink: Sink) -> None:
    """opentelemetry-distro is installed here; which launcher takes which is tested in test_ways_in.py."""
    source = "otelkit.bootstrap()\nprint(json.dumps(otelkit.status()['beside']['opentelemetry-distro']))\n"
    assert json.loads(run(tmp_path, sink, source).out)["state"] == "installed"


@pytest.mark.parametrize("settings", ["service_version='2'", *slow("")], ids=["other", "same"])
def test_a_library_that_bootstraps_too(tmp_path: Path, sink: Sink, settings: str) -> None:
    """The same call is nothing; another one is told where the first was. Each thing is recorded once all the same."""
    (tmp_path / "library.py").write_text(f"import otelkit\notelkit.bootstrap('shop', {settings})\n")
    source = """
sys.path.insert(0, os.getcwd())
otelkit.bootstrap("shop")
try:
    import library
except otelkit.AlreadyConfigured as error:
    print(error)
app = make()
serve()
assert otelkit.flush().ok
print(otelkit.status()["called_at"])
"""
    finished = run(tmp_path, sink, source)
    check(sink)
    *told, called_at = finished.out.splitlines()
    assert called_at.startswith("<string>:")
    assert len(told) == bool(settings)
    assert all(f"was called before, at {called_at}, with other settings" in line for line in told)
