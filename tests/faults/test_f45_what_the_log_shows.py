"""A root handler at DEBUG, no collector for 12 s: the application's log shows its own lines and hardly any of ours."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.faults.spooled import nobody
from tests.support.process import kill_session, run_python, start_python
from tests.support.sink import Answer, Sink

OUTAGE_S = 12.0

START = """
import json, logging, sys, time, otelkit

class Lines(logging.Handler):
    def emit(self, record):
        lines.append((record.levelname, record.name, record.getMessage()))

lines = []
logging.basicConfig(level=logging.DEBUG, handlers=[Lines()])
shop = logging.getLogger("shop")
otelkit.bootstrap("shop")
"""
ENVIRON = {
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "OTEL_BLRP_SCHEDULE_DELAY": "100",
    "OTEL_METRIC_EXPORT_INTERVAL": "500",
    "OTELKIT_LOG_LEVEL": "debug",
}


def others(lines: list[list[str]]) -> list[tuple[str, str]]:
    """Level and logger of what the application has not said itself; the line at start is one of these."""
    return [(level, name) for level, name, _ in lines if name != "shop"]


@pytest.mark.slow
def test_twelve_seconds_without_a_collector(tmp_path: Path) -> None:
    """Batches of all signals fail over and over meanwhile: one warning, no line of the HTTP client's, no traceback.

    When the collector is back one line says so; nothing that otelkit says, and nothing of its client's, is exported.
    """
    source = f"""{START}
said, began = 0, time.monotonic()
while time.monotonic() < began + {OUTAGE_S}:
    with otelkit.span("work"):
        shop.debug("line %d", said)
        otelkit.count("made")
    said += 1
    time.sleep(0.02)
down, lines = lines, []
print("down", flush=True)
sys.stdin.readline()
deadline = time.monotonic() + 60
while not (report := otelkit.flush(5)).ok or report.spooled:
    assert time.monotonic() < deadline, report
print(json.dumps([said, down, lines]))
"""
    with nobody() as port:
        environ = {**ENVIRON, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        process = start_python(source, cwd=tmp_path, environ=environ)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "down\n"
            with Sink(port=port) as sink:
                out, err = process.communicate("go on\n", timeout=90)
                assert process.returncode == 0, err
        finally:
            kill_session(process)
    said, down, back = json.loads(out)
    assert [message for _, name, message in down if name == "shop"] == [f"line {number}" for number in range(said)]
    assert others(down) == [("INFO", "otelkit"), ("WARNING", "otelkit.delivery")]
    assert others(back) == [("INFO", "otelkit.delivery")]
    assert "takes everything again" in back[0][2]
    assert err == ""  # no traceback of a thread, nothing beside the handlers
    assert sorted(log.body for log in sink.logs if log.scope == "shop") == sorted(f"line {n}" for n in range(said))
    # "application starting" is an event for the reader of the telemetry, and no log line.
    assert {(log.scope, log.record.event_name) for log in sink.logs if log.scope != "shop"} == {
        ("otelkit", "otelkit.application.starting")
    }


def test_a_collector_that_comes_and_goes(tmp_path: Path, sink: Sink) -> None:
    """Every other request fails: one warning a minute all the same, and one line that it is back."""
    answers = itertools.cycle([Answer(503), Answer()])
    sink.answer = lambda path: next(answers)
    source = f"""{START}
deadline = time.monotonic() + 40
outages = 0
while outages < 4:
    assert time.monotonic() < deadline
    shop.debug("line")
    accepted = otelkit.status()["ledger"]["logs"]["accepted"]
    while otelkit.status()["ledger"]["logs"]["delivered"] < accepted:  # fails once, and is sent again after a second
        assert time.monotonic() < deadline
        time.sleep(0.01)
    outages += 1
print(json.dumps(lines))
"""
    environ = {
        **ENVIRON,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_TRACES_EXPORTER": "none",
    }
    finished = run_python(source, cwd=tmp_path, environ=environ, deadline_s=60)
    lines = json.loads(finished.out)
    assert others(lines) == [("INFO", "otelkit"), ("WARNING", "otelkit.delivery"), ("INFO", "otelkit.delivery")]
    assert len(sink.asked) >= 8
