"""Row 16 with the flight recorder (OTELKIT_RECORDER=on): who is killed in the middle leaves the spans that it was in,
those that had ended before, and a log record that says how it ended.
"""

from __future__ import annotations

import http.client
import subprocess
from pathlib import Path
from urllib.error import URLError

import celery
import pytest

from examples.shop.redis_server import redis_server
from otelkit.instrumentation.celery_tasks import CARRIER
from tests.faults.spooled import next_start, nobody, run_service
from tests.support.server import BIN, FAST, clean_environment, free_port, get, running, wait_until_up
from tests.support.sink import ReceivedLog, ReceivedSpan, Sink
from tests.support.slow import slow

RECORDER = {"OTELKIT_RECORDER": "on"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
UNFINISHED = 2  # STATUS_CODE_ERROR


def check_died(sink: Sink, *nested: str, finished: str) -> list[ReceivedSpan]:
    """The nested spans are unfinished, each the parent of the next, and the finished one is below the last but one."""
    named = {span.name: span for span in sink.spans if span.trace_id == TRACE}
    assert set(named) == {*nested, finished}
    parent = PARENT
    for name in nested:
        span = named[name]
        assert span.parent_id == parent, name
        assert span.attributes["otelkit.unfinished"] is True
        assert (span.span.status.code, span.span.status.message) == (UNFINISHED, "process died")
        assert span.span.end_time_unix_nano >= span.span.start_time_unix_nano
        parent = span.span_id
    done = named[finished]
    assert done.parent_id == named[nested[-2]].span_id
    assert "otelkit.unfinished" not in done.attributes
    assert done.span.status.code != UNFINISHED
    (died,) = obituaries(sink)
    assert died.attributes["otelkit.process.spans_in_flight"] == len(nested)
    assert died.record.trace_id.hex() == TRACE
    assert died.record.span_id.hex() == named[nested[-1]].span_id
    assert died.resource["process.pid"] == died.attributes["process.pid"] == named[nested[0]].resource["process.pid"]
    return [named[name] for name in nested]


def obituaries(sink: Sink) -> list[ReceivedLog]:
    return [log for log in sink.logs if log.record.event_name == "otelkit.process.died"]


APP = """
import os, signal, threading, time
import fastapi
import otelkit
otelkit.bootstrap("shop")
app = fastapi.FastAPI()

@app.get("/orders/{number}")
def order(number: int, wait: float):
    with otelkit.span("price", number=number): pass
    with otelkit.span("ship", number=number, password="c4n4ry"):
        time.sleep(wait)
        os.kill(os.getpid(), signal.SIGKILL)

@app.get("/")
def root(): return {}
"""


@pytest.mark.parametrize("engine", ["otelkit", *slow("sdk")])
@pytest.mark.parametrize("wait_s", [0.0, 1.5], ids=["at once", "after a while"])
def test_a_request_that_is_killed_in_the_middle(tmp_path: Path, sink: Sink, wait_s: float, engine: str) -> None:
    """The next start of the server sends it. What a span has of its own is there when it has lasted for a second."""
    (tmp_path / "app.py").write_text(APP)
    port, log = free_port(), tmp_path / "log"
    environ = clean_environment(
        **{**FAST, **RECORDER, "OTELKIT_ENGINE": engine},
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
        OTELKIT_STATE_DIR=str(tmp_path / "state"),
    )
    command = ["uvicorn", "app:app", "--port", str(port), "--log-level", "warning"]
    with running(command, cwd=tmp_path, environ=environ, log=log) as server:
        wait_until_up(f"http://127.0.0.1:{port}/", server, log)
        with pytest.raises((URLError, http.client.HTTPException, ConnectionError)):
            get(f"http://127.0.0.1:{port}/orders/7?wait={wait_s}", {"traceparent": TRACEPARENT})
        assert server.wait(10) == -9
    assert not any(b"c4n4ry" in path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    with running(command, cwd=tmp_path, environ=environ, log=log) as server:
        wait_until_up(f"http://127.0.0.1:{port}/", server, log)
        sink.wait_for(lambda: bool(obituaries(sink)), "the dead process's log record", deadline_s=30)
        sink.wait_for(lambda: bool(sink.named("ship")), "the span", deadline_s=30)
    request, ship = check_died(sink, "GET", "ship", finished="price")
    assert request.span.kind == request.span.SPAN_KIND_SERVER
    if wait_s:
        assert (ship.attributes["number"], ship.attributes["password"]) == (7, "[REDACTED]")
        assert request.attributes["http.request.method"] == "GET"
        assert request.attributes["url.path"] == "/orders/7"
        assert ship.span.end_time_unix_nano - ship.span.start_time_unix_nano >= 0.4e9
    (died,) = obituaries(sink)
    assert died.attributes["otelkit.process.ended_by"] == "killed"
    assert not list((tmp_path / "state" / "recorder").rglob("*.ring"))  # the second one ended in order


TASKS = """
import os, signal
import celery
import otelkit
otelkit.bootstrap("worker")
app = celery.Celery("tasks", broker=os.environ["TEST_BROKER"])
app.conf.update(broker_connection_retry_on_startup=True)

@app.task(name="work")
def work():
    with otelkit.span("price"): pass
    with otelkit.span("ship"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_task_that_is_killed_in_the_middle(tmp_path: Path, sink: Sink) -> None:
    """The main process sends it: it lives."""
    (tmp_path / "tasks.py").write_text(TASKS)
    with redis_server() as broker:
        environ = clean_environment(
            **{**FAST, **RECORDER},
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
            OTELKIT_STATE_DIR=str(tmp_path / "state"),
            TEST_BROKER=broker,
        )
        command = ["celery", "-A", "tasks", "worker", "-c", "1", "-l", "WARNING"]
        with (
            running(command, cwd=tmp_path, environ=environ, log=tmp_path / "log"),
            celery.Celery(broker=broker) as producer,
        ):
            producer.send_task("work", headers={CARRIER: {"context": {"traceparent": TRACEPARENT}}})
            sink.wait_for(lambda: bool(obituaries(sink)), "the child's log record", deadline_s=60)
            sink.wait_for(lambda: bool(sink.named("ship")), "the span", deadline_s=30)
    check_died(sink, "process work", "ship", finished="price")


SEGFAULT = """
import ctypes
with otelkit.span("outer"):
    with otelkit.span("before"): pass
    with otelkit.span("inner"):
        ctypes.string_at(0)
"""


def test_a_segmentation_fault_leaves_its_traceback(tmp_path: Path, sink: Sink) -> None:
    finished = run_service(SEGFAULT, sink.port, tmp_path, environ=RECORDER, check=False)
    assert finished.code == -11
    _, said = next_start(sink, tmp_path, environ=RECORDER)
    (died,) = obituaries(sink)
    assert died.attributes["otelkit.process.ended_by"] == "crash"
    assert "Segmentation fault" in died.body
    assert "ctypes" in died.attributes["exception.stacktrace"]
    assert "2 spans were in flight" in said
    assert {span.name for span in sink.spans if "otelkit.unfinished" in span.attributes} == {"outer", "inner"}


KILLED = """
import logging, threading
with otelkit.span("outer"):
    logging.getLogger("shop").warning("the last words")
    with otelkit.span("inner"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_otelkit_recover_sends_it_where_nobody_starts_again(tmp_path: Path) -> None:
    """It says what it found, and fails where it could not be sent; then it is there for the next attempt."""
    with nobody() as port:
        assert run_service(KILLED, port, tmp_path, environ=RECORDER, check=False).code == -9
        environ = clean_environment(
            OTEL_SERVICE_NAME="shop",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTELKIT_STATE_DIR=str(tmp_path / "state"),
        )

        def recover(timeout_s: float) -> subprocess.CompletedProcess[str]:
            command = [str(BIN / "otelkit"), "recover", "--timeout", str(timeout_s)]
            return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

        without = recover(1)
        assert without.returncode == 1
        assert "traces: 2 found, 0 delivered" in without.stdout
        assert "are left where they were" in without.stderr
        with Sink(port=port) as sink:
            found = recover(20)
            assert found.returncode == 0, found.stderr
            assert found.stdout.splitlines() == [
                "traces: 2 found, 2 delivered",
                "metrics: 0 found, 0 delivered",
                "logs: 2 found, 2 delivered",
            ]
            assert {span.name for span in sink.spans} == {"outer", "inner"}
            assert [log.body for log in sink.logs if log.record.event_name == ""] == ["the last words"]
            again = recover(20)
            assert again.stdout.splitlines()[0] == "traces: 0 found, 0 delivered"


FORKS = """
with otelkit.span("parent"):
    child = os.fork()
    if not child:
        with otelkit.span("child"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
print(otelkit.flush(PATIENCE_S).ok)
deadline = time.monotonic() + PATIENCE_S
while time.monotonic() < deadline and not otelkit.status()["ledger"]["traces"]["adopted"]:
    time.sleep(0.05)
print(otelkit.flush(PATIENCE_S).ok)
"""


def test_a_forked_child_has_a_ring_of_its_own(tmp_path: Path, sink: Sink) -> None:
    """The parent's spans go on, the child's is the unfinished one, and the parent finds it."""
    finished = run_service(FORKS, sink.port, tmp_path, environ=RECORDER)
    assert finished.out.splitlines() == ["True", "True"]
    spans = {span.name: span for span in sink.spans}
    assert len(sink.spans) == 2
    assert spans["child"].parent_id == spans["parent"].span_id
    assert "otelkit.unfinished" in spans["child"].attributes
    assert "otelkit.unfinished" not in spans["parent"].attributes
    assert spans["child"].resource["process.pid"] != spans["parent"].resource["process.pid"]


def test_a_full_disk_leaves_the_recorder_off(tmp_path: Path, sink: Sink) -> None:
    """Nothing raises, and status says why."""
    source = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with otelkit.span("work"): pass
assert otelkit.flush(PATIENCE_S).ok
print(otelkit.status()["recorder"]["failure"])
"""
    finished = run_service(source, sink.port, tmp_path, environ=RECORDER)
    assert "File too large" in finished.out
    assert sink.named("work")
    assert not list(tmp_path.rglob("*.new"))
