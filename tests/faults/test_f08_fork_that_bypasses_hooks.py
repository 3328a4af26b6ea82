"""Fault 8: a fork that Python is not told of, as uWSGI's are: no hook runs in the child. Its records are its own, since
it looks at the process id when a trace begins, and its parent's are not sent twice.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.slow import slow

PROGRAM = """
import ctypes, os, signal, sys, time, otelkit
from opentelemetry import trace

def rest():
    # Until the other threads have nothing to do: who waits for the interpreter's lock at such a fork is counted as
    # waiting in the child too, where it is not, and the child's threads hang, with any library.
    others_s, until = -1.0, time.monotonic() + 20
    while abs(others_s - (others_s := time.process_time() - time.thread_time())) > 0.0005:
        assert time.monotonic() < until
        time.sleep(0.2)

def ended(child):
    # A thread that woke up in that very moment is rare, and another child tells that it was no more than this.
    until = time.monotonic() + 20
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert status == 0, status
            return True
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False

otelkit.bootstrap("forks")
if {emits}:  # a fork that Python is not told of does not wait for otelkit's threads to have imported what they need
    with otelkit.span("first"): pass
    assert otelkit.flush(10).ok
for number in range(9 * {emits}):
    with otelkit.span("parents"): pass
    otelkit.event("parents")
    otelkit.count("made")
children = []
hung = 0
while len(children) < 3:
    rest()
    child = ctypes.PyDLL(None).fork()  # PyDLL: with the interpreter's lock, as the server that embeds it forks
    if child == 0:
        {work}
        {ending}
    if ended(child):
        children.append(child)
    else:
        hung += 1
        assert hung <= 1
print(*children)
"""
SPANS = """for number in range(10):
            with otelkit.span("childs", n=number):
                with otelkit.span("inner"): pass
                otelkit.event("childs", n=number)
                otelkit.count("made")
"""
EVENTS = """for number in range(10):
            otelkit.event("childs", n=number)
"""
REMOTE = """remote = trace.NonRecordingSpan(trace.SpanContext(7, 8, True, trace.TraceFlags(1)))
        for number in range(10):
            with trace.get_tracer("app").start_as_current_span("childs", trace.set_span_in_context(remote)): pass
"""
ENDINGS = {
    "flushes": "os._exit(0 if otelkit.flush(10).ok else 1)",
    "ends as a program": "sys.exit(0)",
}
QUIET = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_BLRP_SCHEDULE_DELAY": "60000", "OTELKIT_SHUTDOWN_TIMEOUT_S": "10"}


def run(sink: Sink, place: Path, *, work: str, ending: str, emits: bool = True, engine: str = "otelkit") -> set[int]:
    """The children's process ids; the parent's nine spans and events have arrived once."""
    source = PROGRAM.format(emits=int(emits), work=work, ending=ENDINGS[ending])
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_ENGINE": engine, **QUIET}
    finished = run_python(source, cwd=place, environ=environ, deadline_s=120)
    assert "Traceback" not in finished.err
    assert len({span.span_id for span in sink.named("parents")}) == len(sink.named("parents")) == 9 * emits
    assert [log.record.event_name for log in sink.logs].count("parents") == 9 * emits
    return set(map(int, finished.out.split()))


@pytest.mark.parametrize("engine", ["otelkit", *slow("sdk")])
@pytest.mark.parametrize("emits", [True, False], ids=["parent emits", "parent silent"])
@pytest.mark.parametrize("ending", ["flushes", *slow("ends as a program")])
def test_spans(sink: Sink, tmp_path: Path, ending: str, emits: bool, engine: str) -> None:
    """Thirty traces of three processes, each with ids of its own although they share one random generator's state."""
    children = run(sink, tmp_path, work=SPANS, ending=ending, emits=emits, engine=engine)
    spans, inner = sink.named("childs"), sink.named("inner")
    assert len(spans) == len(inner) == 30
    assert len({span.trace_id for span in sink.spans}) == len(sink.spans) - 30
    assert len({span.span_id for span in sink.spans}) == len(sink.spans)
    assert {span.parent_id for span in inner} == {span.span_id for span in spans}
    assert {span.resource["process.pid"] for span in spans} == children
    identities = {span.resource["service.instance.id"] for span in sink.spans}
    assert len(identities) == 3 + emits
    assert [log.record.event_name for log in sink.logs].count("childs") == 30
    assert sink.total("made") == 30 + 9 * emits


def test_events_without_a_span(sink: Sink, tmp_path: Path) -> None:
    """They too come from a process of their own."""
    children = run(sink, tmp_path, work=EVENTS, ending="flushes")
    events = [log for log in sink.logs if log.record.event_name == "childs"]
    assert len(events) == 30
    assert {log.resource["process.pid"] for log in events} == children


def test_spans_below_a_remote_parent(sink: Sink, tmp_path: Path) -> None:
    """A worker's first request, which comes with a trace."""
    children = run(sink, tmp_path, work=REMOTE, ending="flushes")
    assert len({span.span_id for span in sink.named("childs")}) == 30
    assert {span.resource["process.pid"] for span in sink.named("childs")} == children


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_silent_child(sink: Sink, tmp_path: Path, ending: str) -> None:
    """It sends nothing of its parent's when it ends."""
    run(sink, tmp_path, work="", ending=ending)


def test_the_status(sink: Sink, tmp_path: Path) -> None:
    """It is the child's own."""
    work = """status = otelkit.status()
        assert status["pid"] == status["resource"]["process.pid"] == os.getpid()
        assert status["ledger"]["traces"]["accepted"] == 0
"""
    run(sink, tmp_path, work=work, ending="flushes")
