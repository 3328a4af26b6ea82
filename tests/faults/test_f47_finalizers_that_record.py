"""Fault 47: the garbage collector calls a finalizer that records, in the middle of otelkit's own work: whatever lock
that work holds, nothing waits for itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Sink

BEGINNING = """
import faulthandler, gc, itertools, json, logging, os, sys, threading, time
import otelkit
faulthandler.dump_traceback_later(60, exit=True)  # ends the process where it hangs, and says where
numbers = itertools.count()

class Finalized:
    def __del__(self):
        number = next(numbers)
        with otelkit.span("finalized", n=number): otelkit.count("finalized", n=number % 300)
        otelkit.event("finalized", n=number)
        otelkit.distribution(f"finalized.d{number % 100}", 1)
        otelkit.observe(f"finalized.o{number % 10}", lambda: 1).close()
        logging.getLogger(f"finalized.{number % 10}").warning("finalized")

def work(number):
    with otelkit.span("work") as span:
        span.add_event("step")
        otelkit.count("worked", n=number)
        otelkit.distribution("worked.d", number, n=number)
        otelkit.gauge(f"worked.g{number}", number)
        otelkit.observe(f"worked.o{number}", lambda: number)
        otelkit.event("work", n=number)
        logging.getLogger("shop").warning("work %d", number)
        otelkit.exception(ValueError("work"))
"""
ENDING = """
ended = next(numbers)
deadline = time.monotonic() + 30
while True:  # a finalizer may still be at work in a thread of otelkit's
    assert otelkit.flush(20).ok
    accounts = [otelkit.status()["ledger"][signal] for signal in ("traces", "logs")]
    if all(account["accepted"] == account["delivered"] for account in accounts):
        break
    assert time.monotonic() < deadline, accounts
print(json.dumps([began, ended, otelkit.status()["failures"]]))
"""
# A finalizer may run between any two steps. This one runs before each line of otelkit's, and of what `threading` does
# for it, when that is reached for the first time; in every thread, from the import on.
EVERY_LINE = """
ROOT = os.path.dirname(otelkit.__file__) + os.sep
reached = set()
active = True
def trace(frame, event, argument):
    if not active:
        return None
    name = frame.f_code.co_filename
    if not name.startswith(ROOT) and name != threading.__file__:
        return None
    if event == "line":
        ours = frame
        while ours is not None and not ours.f_code.co_filename.startswith(ROOT):
            ours = ours.f_back
        line = ours and (name, frame.f_lineno, ours.f_code.co_filename, ours.f_lineno)
        if line and line not in reached:
            reached.add(line)
            Finalized()
    return trace
threading.settrace(trace)
sys.settrace(trace)
otelkit.bootstrap("shop")
began = next(numbers) + 1
for number in range(20):
    work(number)
assert otelkit.flush(20).ok
for number in range(20):
    work(number)
active = False
sys.settrace(None)
for number in range(20):
    work(number)
assert len(reached) > 1000, len(reached)
"""
EVERY_COLLECTION = """
class Cycle(Finalized):
    def __init__(self):
        self.itself = self
otelkit.bootstrap("shop")
began = next(numbers) + 1
gc.set_threshold(3)
def run(start):
    for number in range(start, start + 100):
        for _ in range(4):
            Cycle()
        work(number)
threads = [threading.Thread(target=run, args=(start,)) for start in (0, 200, 400)]
for thread in threads: thread.start()
for thread in threads: thread.join()
gc.collect()
gc.set_threshold(0)
"""


def test_at_every_line(sink: Sink, tmp_path: Path) -> None:
    """Of all the code that records, encodes, sends and flushes."""
    _run(sink, tmp_path, EVERY_LINE)


@pytest.mark.slow
def test_at_every_collection(sink: Sink, tmp_path: Path) -> None:
    """The real thing: the collector runs all the time, in four threads that record and in otelkit's own."""
    _run(sink, tmp_path, EVERY_COLLECTION)


def _run(sink: Sink, place: Path, source: str) -> None:
    environ = {
        "OTELKIT_RECORDER": "on",
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "30",  # the worker is woken often: that takes a lock as well
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "30",
        "OTEL_BSP_MAX_QUEUE_SIZE": "1000000",
        "OTEL_BLRP_MAX_QUEUE_SIZE": "1000000",
    }
    finished = run_python(BEGINNING + source + ENDING, cwd=place, environ=environ, deadline_s=90)
    began, ended, failures = json.loads(finished.out)
    assert failures == {}
    assert ended - began > 500
    finalized = set(range(began, ended))
    spans = [span.attributes["n"] for span in sink.named("finalized")]
    assert len(spans) == len(set(spans))
    assert finalized <= set(spans)  # those before had no telemetry yet
    events = [log.attributes["n"] for log in sink.logs if log.record.event_name == "finalized"]
    assert len(events) == len(set(events))
    assert finalized <= set(events)
