"""What blocks the event loop of a real server: the lag as a metric, and one log record with the culprit's stack."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from fastapi import FastAPI
from opentelemetry._logs import get_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord

import otelkit
from otelkit.instrumentation.blocked_loops import EVENT
from tests.integration.conftest import Exported, served
from tests.support.process import run_python
from tests.support.server import PATIENT, get
from tests.support.sink import ReceivedLog, Sink
from tests.support.slow import slow

SERVER, UNSET = 2, 0
WARN = 13
OF_A_BLOCK = (
    "code.function.name",
    "code.file.path",
    "code.line.number",
    "code.stacktrace",
    "asyncio.event_loop.lag",
)
THREAD = "otelkit-loops"
app = FastAPI()


class Told(LogRecordProcessor):
    """Counts what is told of blocks, as it is told."""

    def __init__(self) -> None:
        self.times = 0

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.times += log_record.log_record.event_name == EVENT

    def shutdown(self) -> None:
        """Nothing."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


told = Told()


@functools.cache
def count_what_is_told() -> None:
    """Once: the provider lives as long as the process."""
    provider = get_logger_provider()
    assert isinstance(provider, LoggerProvider)
    provider.add_log_record_processor(told)


def price(seconds: float) -> None:
    """Blocks."""
    time.sleep(seconds)


def price_until_told() -> None:
    """Blocks until it is told, as long as that may take on a busy machine, and for three more looks."""
    before, deadline = told.times, time.monotonic() + 10
    while told.times == before and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.6)


def count_until_told() -> None:
    """Blocks with the interpreter at work, as above."""
    before, deadline = told.times, time.monotonic() + 10
    while told.times == before and time.monotonic() < deadline:
        sum(range(1000))
    end_s = time.monotonic() + 0.6
    while time.monotonic() < end_s:
        sum(range(1000))


@app.get("/blocking")
async def blocking() -> None:
    otelkit.bind(plan="pro")
    price_until_told()


@app.get("/busy")
async def busy() -> None:
    count_until_told()


@app.get("/locked")
async def locked() -> None:
    ctypes.PyDLL(None).usleep(900_000)  # a call that keeps the interpreter's lock


@app.get("/waiting")
async def waiting() -> None:
    await asyncio.sleep(0.6)


@app.get("/thread")
def in_a_thread() -> None:
    price(0.6)


@app.get("/many")
async def many_callbacks() -> None:
    for _ in range(30):
        time.sleep(0.02)
        await asyncio.sleep(0)


@app.get("/")
async def index() -> str:
    return "x"


def blocks(exported: Exported) -> list[ReceivedLog]:
    """The records of blocks."""
    exported.flush()
    return [log for log in exported.sink.logs if log.record.event_name == EVENT]


@pytest.mark.parametrize(
    ("path", "culprit", "loop", "engine"),
    [
        ("blocking", "price_until_told", "asyncio", "otelkit"),
        ("blocking", "price_until_told", "uvloop", "otelkit"),
        ("blocking", "price_until_told", "asyncio", "sdk"),
        ("blocking", "price_until_told", "uvloop", "sdk"),
        ("busy", "count_until_told", "asyncio", "otelkit"),
        ("busy", "count_until_told", "uvloop", "otelkit"),
        ("waiting", "", "asyncio", "otelkit"),
        ("waiting", "", "uvloop", "otelkit"),
        ("thread", "", "asyncio", "otelkit"),
        ("many", "", "asyncio", "otelkit"),
    ],
)
def test_what_blocks_is_told_once_with_its_stack(
    start: Callable[..., Exported], path: str, culprit: str, loop: Literal["asyncio", "uvloop"], engine: str
) -> None:
    """In the request's trace, with what is bound; what waits, runs in a thread, or blocks shortly many times is not."""
    pytest.importorskip(loop)
    exported = start(blocked_loop_s=0.2, engine=engine, metric_export_interval_s=60)
    count_what_is_told()
    with served(app, loop=loop) as url:
        get(url)
        time.sleep(0.25)  # the loop's timer has fired once
        if not culprit:
            # A machine that keeps the process from running does block the loop: then it is asked once more.
            before = len(blocks(exported))
            get(f"{url}/{path}")
            if len(again := blocks(exported)) > before:
                get(f"{url}/{path}")
                assert len(blocks(exported)) == len(again)
            return
        get(f"{url}/{path}")
        exported.wait_for_spans(2)
        server = exported.span(f"GET /{path}")
        # A busy machine may block the loop at another time, too.
        (log,) = [each for each in blocks(exported) if each.attributes["code.function.name"] == culprit]
        deadline = time.monotonic() + 10
        # The lag's own timer is due within half a second, and late by the rest.
        late_s = server.duration_s - 0.5
        while exported.sink.seconds("asyncio.event_loop.lag") < late_s and time.monotonic() < deadline:
            time.sleep(0.05)
            exported.flush()
    found = log.attributes
    assert (log.record.severity_number, log.scope) == (WARN, "otelkit.asyncio")
    assert log.body.startswith("the event loop is blocked for more than 0.2 s, in ")
    assert found["code.file.path"] in (__file__, threading.__file__)
    assert f", in {path}\n" in found["code.stacktrace"]
    assert f", in {culprit}\n" in found["code.stacktrace"]
    assert 0.2 <= found["asyncio.event_loop.lag"] < server.duration_s - 0.5
    assert (log.record.trace_id.hex(), log.record.span_id.hex()) == (server.trace_id, server.span_id)
    assert found["request.id"] == server.attributes["request.id"]
    assert path != "blocking" or found["plan"] == "pro"
    assert found.keys() == {*OF_A_BLOCK, "request.id", *(["plan"] if path == "blocking" else [])}
    assert [labels for _, labels in exported.sink.series("asyncio.event_loop.lag")] == [()]
    assert exported.total("asyncio.event_loop.lag") >= 1
    assert exported.sink.seconds("asyncio.event_loop.lag") >= late_s
    assert (server.span.kind, server.span.status.code) == (SERVER, UNSET)
    assert [span.name for span in exported.spans].count(f"GET /{path}") == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_call_that_keeps_the_interpreters_lock_is_told(
    start: Callable[..., Exported], loop: Literal["asyncio", "uvloop"]
) -> None:
    """Once nobody keeps it. Who gets it then is chance, so not at every try."""
    pytest.importorskip(loop)
    exported = start(blocked_loop_s=0.2)
    with served(app, loop=loop) as url:
        for _ in range(20):
            get(f"{url}/locked")
            if found := blocks(exported):
                break
    assert found[0].attributes["asyncio.event_loop.lag"] >= 0.2


@pytest.fixture
def without_garbage() -> Iterator[None]:
    """The collector of garbage is off during a test, and what there was before is gone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def watching() -> bool:
    """Whether the thread lives."""
    return any(thread.name == THREAD for thread in threading.enumerate())


def test_the_thread_lives_as_long_as_a_loop_is_watched(start: Callable[..., Exported], without_garbage: None) -> None:
    """From the first request, or a moment after it began to run, to the loop's end; not with 0, nor after shutdown.

    Without the collector of garbage: a look that left a cycle behind would keep the loop, and all that the frames of
    the process's threads refer to.
    """

    def ends() -> bool:
        deadline = time.monotonic() + 10
        while watching() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not watching()

    start(blocked_loop_s=0.1)
    assert not watching()
    with served(app) as url:
        get(url)
        assert watching()
    assert ends()
    with served(app) as url:
        get(url)
        assert watching()
        otelkit.shutdown()
        assert ends()
    start(blocked_loop_s=0)
    with served(app) as url:
        get(url)
        assert not watching()


WATCHED = """
import asyncio, os, sys, threading, time
import otelkit
from otelkit.instrumentation.loop_timers import watch_running_loop
otelkit.bootstrap("x")"""


CONSUMER = """
import asyncio, os, sys, time
import otelkit
EARLY

def price():
    time.sleep(1.5)

async def handle():
    with otelkit.span("handle"):
        price()

async def main():
    LATE
    for _ in range(3):
        asyncio.get_running_loop().call_soon(len, ())
    await asyncio.sleep(0.5)
    await asyncio.create_task(handle())
    await asyncio.sleep(0.3)

RUN
otelkit.shutdown()
"""


@pytest.mark.parametrize("engine", ["otelkit", *slow("sdk")])
@pytest.mark.parametrize(
    ("run", "late"),
    [
        ("asyncio.run(main())", False),
        ("asyncio.run(main())", True),
        ("import uvloop; uvloop.install(); asyncio.run(main())", False),
        ("import uvloop; loop = uvloop.new_event_loop(); loop.run_until_complete(main()); loop.close()", True),
    ],
)
def test_a_loop_that_answers_no_request_is_watched(
    sink: Sink, tmp_path: Path, run: str, late: bool, engine: str
) -> None:
    """Of a consumer or a script, also where telemetry is started within it; with asyncio's loop in the span's trace."""
    if "uvloop" in run:
        pytest.importorskip("uvloop")
    start = f"otelkit.bootstrap('consumer', engine='{engine}')"
    source = CONSUMER.replace("EARLY", "" if late else start).replace("LATE", start if late else "pass")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_BLOCKED_LOOP_S": "0.2", **PATIENT}
    environ["OTELKIT_RUNTIME_METRICS"] = "true"
    run_python(source.replace("RUN", run), cwd=tmp_path, environ=environ)
    found = [log for log in sink.logs if log.record.event_name == EVENT]
    # A busy machine may block the loop at another time, too.
    (log,) = [log for log in found if log.attributes["code.function.name"] == "price"]
    assert ", in handle\n" in log.attributes["code.stacktrace"]
    if "uvloop" not in run or sys.version_info >= (3, 12):
        (span,) = sink.named("handle")
        assert (log.record.trace_id.hex(), log.record.span_id.hex()) == (span.trace_id, span.span_id)
    assert sink.total("asyncio.event_loop.lag") >= 1


def test_a_loop_that_runs_for_a_moment_is_not_watched(tmp_path: Path) -> None:
    """Thousands of `asyncio.run`: neither a thread nor a timer is left; after the undo the method is asyncio's own."""
    source = """
import asyncio, threading
from asyncio.base_events import BaseEventLoop
import otelkit
before = BaseEventLoop.run_forever
otelkit.bootstrap("x")
async def nothing():
    pass
for _ in range(100):
    asyncio.run(nothing())
loop = asyncio.new_event_loop()
for _ in range(1000):
    loop.run_until_complete(nothing())
assert "otelkit-loops" not in [thread.name for thread in threading.enumerate()]
assert len(loop._scheduled) < 200
loop.close()
assert BaseEventLoop.run_forever is not before
otelkit.shutdown()
assert BaseEventLoop.run_forever is before
"""
    environ = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    run_python(source, cwd=tmp_path, environ=environ)


def test_a_forked_child_watches_its_own_loop(sink: Sink, tmp_path: Path) -> None:
    """A fork in the middle of a watched loop: the child has no thread until its own loop is watched."""
    source = """
def block():
    time.sleep(1.5)

def child():
    async def main():
        watch_running_loop()
        await asyncio.sleep(0.1)
        block()
    assert threading.active_count() == 1
    asyncio.run(main())
    otelkit.shutdown()
    os._exit(0)

async def main():
    watch_running_loop()
    await asyncio.sleep(0.1)
    return os.fork()

loop = asyncio.new_event_loop()
pid = loop.run_until_complete(main())
if pid == 0:
    asyncio.set_event_loop(None)
    child()
assert os.waitpid(pid, 0)[1] == 0
loop.close()
"""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_BLOCKED_LOOP_S": "0.1"}
    run_python(WATCHED + source, cwd=tmp_path, environ=environ)
    told = [log.attributes["code.function.name"] for log in sink.logs if log.record.event_name == EVENT]
    assert told.count("block") == 1  # the fork itself takes long on a busy machine


@pytest.mark.slow
def test_watching_costs_less_than_a_hundredth_of_a_cpu(tmp_path: Path) -> None:
    """An idle loop with the default threshold; what it costs as well without is in the figure."""
    source = """
async def main():
    watch_running_loop()
    await asyncio.sleep(0.5)
    before = time.process_time()
    await asyncio.sleep(4)
    print((time.process_time() - before) / 4)
asyncio.run(main())
"""
    environ = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    share = float(run_python(WATCHED + source, cwd=tmp_path, environ=environ).out)
    assert share < 0.01
