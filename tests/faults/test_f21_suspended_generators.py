"""Fault 21: a generator stands within a span when the process ends: the span ends before the export closes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.process import kill_session, run_python, start_python
from tests.support.sink import Sink
from tests.support.slow import slow

GENERATORS = """
import asyncio, os, signal, sys, time, otelkit
from opentelemetry import trace
otelkit.bootstrap("ends")

def in_a_block():
    with otelkit.span("outer"):
        with otelkit.span("inner") as span:
            yield 1
            span.set_attribute("late", True)
            yield 2

@otelkit.traced("decorated")
def decorated():
    yield 1
    yield 2

def by_the_api():
    with trace.get_tracer("app").start_as_current_span("api"):
        yield 1

@otelkit.traced("asynchronous")
async def asynchronous():
    yield 1
    yield 2

generators = [in_a_block(), decorated(), by_the_api()]
for generator in generators:
    assert next(generator) == 1
unfinished = asynchronous()
try:
    unfinished.__anext__().send(None)
except StopIteration as step:
    assert step.value == 1
"""
NAMES = ["api", "asynchronous", "decorated", "inner", "outer"]
ENDINGS = {
    "exit": "",
    "sys.exit": "sys.exit(0)",
}


@pytest.mark.parametrize("engine", ["otelkit", *slow("sdk")])
@pytest.mark.parametrize("ending", ["exit", *slow("sys.exit")])
def test_each_arrives(sink: Sink, tmp_path: Path, ending: str, engine: str) -> None:
    """Once, below its parent; nothing is said of its second end."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_ENGINE": engine}
    finished = run_python(GENERATORS + ENDINGS[ending], cwd=tmp_path, environ=environ)
    assert sorted(span.name for span in sink.spans) == NAMES
    (inner,), (outer,) = sink.named("inner"), sink.named("outer")
    assert inner.parent_id == outer.span_id
    assert inner.span.end_time_unix_nano <= outer.span.end_time_unix_nano
    assert "Traceback" not in finished.err
    if engine == "otelkit":
        assert "WARNING" not in finished.err


def test_sigterm(sink: Sink, tmp_path: Path) -> None:
    """And what the signal broke off: a span of the main thread."""
    source = (
        GENERATORS
        + """
with otelkit.span("broken off"):
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
"""
    )
    process = start_python(source, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == -signal.SIGTERM
    finally:
        kill_session(process)
    assert sorted(span.name for span in sink.spans) == sorted([*NAMES, "broken off"])


def test_a_childs_end_ends_nothing_of_its_parents(sink: Sink, tmp_path: Path) -> None:
    """The parent's open spans are in the child's memory as well; a processor of the application's sees none of them."""
    source = (
        GENERATORS
        + """
import multiprocessing
from opentelemetry.sdk.trace import SpanProcessor
class Seen(SpanProcessor):
    def on_end(self, span):
        if os.getpid() != parent:
            os.write(1, f"{span.name}\\n".encode())
parent = os.getpid()
trace.get_tracer_provider().add_span_processor(Seen())
def work():
    generators.append(in_a_block())
    next(generators[-1])
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
assert child.exitcode == 0
"""
    )
    finished = run_python(source, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
    assert finished.out.split() == ["inner", "outer"]
    assert sorted(span.name for span in sink.spans) == sorted([*NAMES, "inner", "outer"])
    pids = {span.span_id: span.resource["process.pid"] for span in sink.spans}
    assert sorted(map(list(pids.values()).count, set(pids.values()))) == [2, 5]


@pytest.mark.parametrize("engine", ["otelkit", *slow("sdk")])
def test_the_search_for_open_spans_breaks_nothing_in_other_threads(sink: Sink, tmp_path: Path, engine: str) -> None:
    """Where another reference to a tuple is held while it is being made of an iterator, CPython raises SystemError."""
    source = """
    import atexit, sys, threading
    sys.setswitchinterval(0.001)
    failed = []
    atexit.register(lambda: print(failed))  # after otelkit's end

    import otelkit
    otelkit.bootstrap("ends")

    def make_tuples():
        while True:
            try:
                tuple(number for number in range(1000))
            except SystemError as error:
                return failed.append(error)

    threading.Thread(target=make_tuples, daemon=True).start()
    many = [[number] for number in range(300_000)]  # a search takes a while
    otelkit.span("open").__enter__()
    """
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_ENGINE": engine}
    assert run_python(source, cwd=tmp_path, environ=environ).out == "[]\n"
    assert [span.name for span in sink.spans] == ["open"]
