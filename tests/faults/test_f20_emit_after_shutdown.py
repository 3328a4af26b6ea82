"""Fault 20: records after shutdown. Each is counted as dropped, none is sent, and nothing calls itself for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.slow import slow

# A handler that records what it handles, as opentelemetry-python#3625 has one; it must see what the application says.
SOURCE = """
import atexit, json, logging, os, threading, time, otelkit
class Echo(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage())
        otelkit.event("echo")
        with otelkit.span("echo"): pass
seen = []
logging.basicConfig(level=logging.DEBUG, handlers=[Echo()])
def emit():
    for number in range(100):
        with otelkit.span("late"): otelkit.count("made")
        otelkit.event("late")
        logging.getLogger("shop").error("late %d", number)
telemetry = otelkit.bootstrap("ends")
with otelkit.span("work"): pass
assert {handle}.shutdown(10).ok
before, seen_before = otelkit.status()["ledger"], len(seen)
{when}
after = otelkit.status()["ledger"]
print(json.dumps([before, after, seen[seen_before:], otelkit.status()["failures"]]))
"""
WHENS = {
    "at once": "emit()",
    "in another thread": "thread = threading.Thread(target=emit); thread.start(); thread.join()",
    "after a second shutdown": "otelkit.shutdown(); emit()",
    "and a flush": "emit(); otelkit.flush(1)",
}


@pytest.mark.parametrize("handle", ["otelkit", *slow("telemetry")])
@pytest.mark.parametrize("when", ["at once", "and a flush", *slow("in another thread", "after a second shutdown")])
def test_each_is_counted(sink: Sink, tmp_path: Path, when: str, handle: str) -> None:
    """100 spans, events and log lines, each line echoed by an event and a span."""
    source = SOURCE.format(when=WHENS[when], handle=handle)
    finished = run_python(source, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
    before, after, seen, failures = json.loads(finished.out)
    assert seen == [f"late {number}" for number in range(100)]
    assert failures == {}
    for signal, late in {"traces": 200, "logs": 200}.items():
        dropped = after[signal]["dropped"].get("after_shutdown", 0) - before[signal]["dropped"].get("after_shutdown", 0)
        accepted = after[signal]["accepted"] - before[signal]["accepted"]
        assert dropped == accepted == late, after
        assert after[signal]["delivered"] == before[signal]["delivered"]
    assert {span.name for span in sink.spans} <= {"work", "echo"}
    assert sink.total("made") == 0


def test_in_an_atexit_function_that_runs_last(sink: Sink, tmp_path: Path) -> None:
    """After otelkit's own end of the process: no exception, nothing sent."""
    source = """
    import atexit, logging, otelkit
    def late():
        with otelkit.span("late"): otelkit.count("made")
        otelkit.event("late")
        logging.getLogger("shop").error("late")
        print(otelkit.status()["state"], otelkit.status()["ledger"]["traces"]["dropped"])
    atexit.register(late)
    otelkit.bootstrap("ends")
    with otelkit.span("work"): pass
    """
    finished = run_python(source, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
    assert finished.out == "ended {'after_shutdown': 1}\n"
    assert "Traceback" not in finished.err
    assert [span.name for span in sink.spans] == ["work"]
