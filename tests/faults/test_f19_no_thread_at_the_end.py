"""Fault 19: no thread can be started when the process ends (the interpreter has begun to end, or the system has no room
for one). Nothing is raised, and what is queued arrives.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.process import Finished, run_python
from tests.support.sink import Sink

# A stack that is larger than any address space: the system refuses the thread, as it does where it has no more.
BEGINNING = """
import atexit, os, signal, sys, threading, time, otelkit
def no_more_threads():
    threading.stack_size(1 << 47)
    try:
        threading.Thread(target=print, daemon=True).start()
    except RuntimeError:
        return
    raise AssertionError("a thread was started")
def emit():
    for number in range(100):
        with otelkit.span("work"): otelkit.count("made")
        otelkit.event("done", n=number)
otelkit.bootstrap("ends")
"""
PROGRAMS = {
    "from the first record on": "no_more_threads()\nemit()\n",
    "only in an atexit function": "atexit.register(emit)\natexit.register(no_more_threads)\n",
    "after records": "emit()\nno_more_threads()\n",
    "at a second start": "emit()\notelkit.shutdown()\notelkit.bootstrap('ends')\nno_more_threads()\nemit()\n",
}


def run(sink: Sink, place: Path, source: str, *, check: bool = True, timeout_s: float = 10) -> Finished:
    """Runs a program; `timeout_s` is what its end may take."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_SHUTDOWN_TIMEOUT_S": str(timeout_s)}
    finished = run_python(source, cwd=place, environ=environ, check=check)
    assert "Traceback" not in finished.err
    return finished


@pytest.mark.parametrize("when", PROGRAMS)
def test_everything_arrives_and_nothing_is_raised(sink: Sink, tmp_path: Path, when: str) -> None:
    """Whoever ends the process does the work."""
    run(sink, tmp_path, BEGINNING + PROGRAMS[when])
    times = 2 if when == "at a second start" else 1
    assert len({span.span_id for span in sink.named("work")}) == len(sink.named("work")) == 100 * times
    assert sum(log.record.event_name == "done" for log in sink.logs) == 100 * times
    assert sink.total("made") == 100 * times


def test_records_of_atexit_functions_arrive(sink: Sink, tmp_path: Path) -> None:
    """From Python 3.12 on no thread starts while they run: the first record of the process is one of theirs."""
    run(sink, tmp_path, BEGINNING + "atexit.register(emit)\n")
    assert len({span.span_id for span in sink.named("work")}) == 100


def test_sigterm(sink: Sink, tmp_path: Path) -> None:
    """Its handler needs a thread: without one it does the work itself, and the process ends by the signal, with no
    exception in the application's code.
    """
    source = f"{BEGINNING}emit()\nno_more_threads()\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(20)\n"
    assert run(sink, tmp_path, source, check=False).code == -signal.SIGTERM
    assert len({span.span_id for span in sink.named("work")}) == 100


@pytest.mark.slow
def test_sigterm_while_a_lock_is_held(sink: Sink, tmp_path: Path) -> None:
    """The handler does the work itself, and waits for a lock that its own thread holds: not for ever."""
    source = f"""
from tests.support import locks
made = locks.watch()
{BEGINNING}
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
emit()
no_more_threads()
with made["delivery/outbox.py Outbox.__init__"][0]:
    print("held", flush=True)
    while True:
        time.sleep(0.05)
"""
    finished = run(sink, tmp_path, source, check=False, timeout_s=0.5)
    assert (finished.code, finished.out) == (-signal.SIGALRM, "held\n")
