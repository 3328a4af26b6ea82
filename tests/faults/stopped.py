"""What the tests of signals share: a program with 1000 spans queued, that is then sent a signal."""

from __future__ import annotations

from pathlib import Path

from tests.support.process import Finished, kill_session, start_python
from tests.support.sink import Sink

_PROGRAM = """
import os, signal, sys, time, otelkit
{before}
otelkit.bootstrap("script")
{after}
for number in range(1000):
    with otelkit.span("work"): pass
print("ready", flush=True)
while True:
    time.sleep(0.05)  # not once: a signal between the interpreter's look and the call is seen after it
"""
# Nothing is sent before the signal; that an end keeps its deadline is a test of its own.
_QUEUED = {
    "OTEL_BSP_SCHEDULE_DELAY": "60000",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2000",
    "OTELKIT_SHUTDOWN_TIMEOUT_S": "10",
}


def stopped(number: int, sink: Sink, place: Path, *, before: str = "", after: str = "") -> Finished:
    """Runs the program with code before and after its bootstrap, and sends the signal: how it ended."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, **_QUEUED}
    process = start_python(_PROGRAM.format(before=before, after=after), cwd=place, environ=environ)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        assert sink.named("work") == []
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        kill_session(process)
    return Finished(process.returncode, out, err)


def arrived(sink: Sink) -> int:
    """How many spans of the program arrived; fails where one came twice."""
    spans = sink.named("work")
    assert len({span.span_id for span in spans}) == len(spans)
    return len(spans)
