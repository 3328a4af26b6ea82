"""Errors that nobody handled are reported as such, wherever they end up, and the earlier hook still runs."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.process import Finished, run_python
from tests.support.server import AT_THE_END
from tests.support.sink import Sink
from tests.support.slow import slow
from tests.support.started import started

FATAL, ERROR = 21, 17
START = """
import asyncio, gc, os, sys, threading, time
import otelkit

class Lost(Exception):
    pass

def fail():
    raise Lost("order 4711")

def earlier(*args):
    print("the earlier hook", flush=True)
"""
BOOTSTRAP = "otelkit.bootstrap('unhandled', service_version='1.2.3')\n"


@dataclass(frozen=True)
class Case:
    """A program in which an error ends up somewhere, and what its record says."""

    before: str
    program: str
    mechanism: str
    body: str
    severity: int = ERROR
    code: int = 0


LOOP = """
async def main():
    asyncio.get_running_loop().set_exception_handler(earlier)
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.01)
"""
FORGOTTEN = """
async def failing():
    with otelkit.span("around"):
        pass
    fail()
async def main():
    asyncio.get_running_loop().set_exception_handler(earlier)
    with otelkit.span("request"):
        task = asyncio.create_task(failing())
    await asyncio.sleep(0.01)
    del task
    gc.collect()
"""
CASES = {
    "program": Case("sys.excepthook = earlier", "fail()", "sys.excepthook", "the program ends: Lost", FATAL, 1),
    "thread": Case(
        "threading.excepthook = earlier",
        "thread = threading.Thread(target=fail, name='T')\nthread.start()\nthread.join()",
        "threading.excepthook",
        "the thread T ends: Lost",
    ),
    "callback": Case("", f"{LOOP}asyncio.run(main())", "asyncio", "Exception in callback fail: Lost"),
    "task": Case("", f"{FORGOTTEN}asyncio.run(main())", "asyncio", "Task exception was never retrieved: Lost"),
    "uvloop": Case("import uvloop", f"{LOOP}uvloop.run(main())", "asyncio", "Exception in callback: Lost"),
    "finalizer": Case(
        "sys.unraisablehook = earlier",
        "class Closing:\n    def __del__(self): fail()\nClosing()",
        "sys.unraisablehook",
        "",
    ),
}


def run(sink: Sink, place: Path, source: str, *, check: bool = True) -> Finished:
    """Runs a program that sends nothing before its end."""
    environ = {**AT_THE_END, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    return run_python(START + source, cwd=place, environ=environ, check=check)


@pytest.mark.parametrize("engine", ["otelkit", *slow("sdk")])
@pytest.mark.parametrize("name", CASES)
def test_an_unhandled_error_is_one_record_and_the_earlier_hook_runs(
    sink: Sink, tmp_path: Path, name: str, engine: str
) -> None:
    """With where it ended, type, message, stack and fingerprint, under the service's version; no span is made."""
    case = CASES[name]
    if name == "uvloop":
        pytest.importorskip("uvloop")
    bootstrap = BOOTSTRAP.replace("unhandled'", f"unhandled', engine='{engine}'")
    finished = run(sink, tmp_path, f"{case.before}\n{bootstrap}{case.program}", check=False)
    assert finished.code == case.code, finished.err
    assert finished.out == "the earlier hook\n"
    (log,) = [log for log in sink.logs if log.record.event_name == "exception"]
    assert log.record.severity_number == case.severity
    assert log.body.startswith(case.body)
    assert log.body.endswith(": Lost: order 4711")
    assert log.body.partition(": Lost")[0] not in ("", "None")
    assert log.resource["service.version"] == "1.2.3"
    found = log.attributes
    assert (found["otelkit.error.handled"], found["otelkit.error.mechanism"]) == (False, case.mechanism)
    assert (found["exception.type"], found["exception.message"]) == ("Lost", "order 4711")
    assert found["exception.stacktrace"].endswith("Lost: order 4711\n")
    assert len(found["otelkit.error.fingerprint"]) == 16
    spans = {span.name: span for span in sink.spans}
    assert set(spans) == ({"request", "around"} if name == "task" else set())
    if name == "task":
        assert not spans["request"].span.status.code
        if sys.version_info >= (3, 12):  # where a task tells its context
            assert log.record.trace_id.hex() == spans["request"].trace_id


def test_an_error_that_left_a_span_has_its_stack_once(sink: Sink, tmp_path: Path) -> None:
    """The record of the end refers to that of the span, which has the trace, by the fingerprint."""
    finished = run(sink, tmp_path, f"{BOOTSTRAP}with otelkit.span('work'):\n    fail()", check=False)
    assert finished.code == 1
    assert "Lost: order 4711" in finished.err
    first, second = [log for log in sink.logs if log.record.event_name == "exception"]
    assert first.record.trace_id.hex() == sink.named("work")[0].trace_id
    assert "exception.stacktrace" in first.attributes
    assert "exception.stacktrace" not in second.attributes
    assert second.attributes["otelkit.error.mechanism"] == "sys.excepthook"
    assert first.attributes["otelkit.error.fingerprint"] == second.attributes["otelkit.error.fingerprint"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_arguments_of_callbacks_and_results_of_tasks_are_not_exported(sink: Sink, tmp_path: Path, loop: str) -> None:
    """The loop's own log lines show them; they are printed as they are."""
    pytest.importorskip(loop)
    program = f"""
import {loop}, logging
async def result():
    await asyncio.sleep(0)
    time.sleep(0.2)
    return "s3" + "cret"
async def main():
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().call_soon(int, "s3" + "cret")  # a source line is in the record as it is
    await asyncio.create_task(result())
    await asyncio.sleep(0.01)
"""
    run_it = f"{loop}.run(main())" if sys.version_info >= (3, 11) else "asyncio.run(main())"
    finished = run(sink, tmp_path, f"{BOOTSTRAP}{program}{run_it}")
    assert "Exception in callback" in finished.err
    lines = [str(log.body) for log in sink.logs if log.scope == "asyncio"]
    assert lines
    assert not [line for line in lines if "s3cret" in line]


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "sys.exit(3)"])
def test_who_ends_the_program_on_purpose_is_no_error(sink: Sink, tmp_path: Path, end: str) -> None:
    """Ctrl-C and sys.exit, also in a thread."""
    thread = "thread = threading.Thread(target=sys.exit, args=(1,))\nthread.start()\nthread.join()\n"
    run(sink, tmp_path, f"{BOOTSTRAP}{thread}{end}", check=False)
    assert not [log for log in sink.logs if log.record.event_name == "exception"]


def test_the_hooks_are_the_earlier_ones_again_after_the_end(tmp_path: Path) -> None:
    """And never were others with OTELKIT_UNHANDLED_ERRORS=false; one that was put on top is left where it is."""

    def hooks() -> list[object]:
        loop = asyncio.BaseEventLoop.call_exception_handler
        return [sys.excepthook, threading.excepthook, sys.unraisablehook, loop]

    before = hooks()
    with started(tmp_path):
        assert not [now for now, earlier in zip(hooks(), before, strict=True) if now is earlier]
    assert hooks() == before
    with started(tmp_path, unhandled_errors=False):
        assert hooks() == before
    with started(tmp_path):
        ours = sys.excepthook
        sys.excepthook = lambda *error: ours(*error)
        later = sys.excepthook
    try:
        assert sys.excepthook is later
    finally:
        sys.excepthook = before[0]  # type: ignore[assignment]
