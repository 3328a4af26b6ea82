"""The service is restarted while the collector is away: what it left is taken over once, by one of those that live."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from tests.faults.spooled import NEXT_START, next_start, nobody, run_service
from tests.support.process import kill_session, start_python
from tests.support.sink import Answer, Sink

LEAVE = """
for number in range(200):
    with otelkit.span("left"): pass
    otelkit.event("left", n=number)
"""


def test_of_many_that_start_one_adopts(tmp_path: Path) -> None:
    """Three processes leave 200 spans each; four start at the same time."""
    with nobody() as port:
        for _ in range(3):
            run_service(LEAVE, port, tmp_path)
    found: list[str] = []
    with Sink(port=port) as sink:
        starts = [
            threading.Thread(target=lambda: found.append(run_service(NEXT_START, port, tmp_path).out)) for _ in range(4)
        ]
        for thread in starts:
            thread.start()
        for thread in starts:
            thread.join()
        sink.wait_for(lambda: len(sink.named("left")) >= 600, "what was left")
        assert len({span.span_id for span in sink.named("left")}) == len(sink.named("left")) == 600
        assert sum(log.record.event_name == "left" for log in sink.logs) == 600
    ledgers = [json.loads(out.splitlines()[-1]) for out in found]
    assert sum(ledger["traces"]["adopted"] for ledger in ledgers) == 600
    assert list(tmp_path.glob("state/spool/*/*")) == []


@pytest.mark.slow
def test_a_living_process_adopts_too(tmp_path: Path, sink: Sink) -> None:
    """Not only at a start: a worker that is recycled during an outage leaves to the others."""
    source = """
with otelkit.span("mine"): pass
assert otelkit.flush(5).ok
print("ready", flush=True)
sys.stdin.readline()
with otelkit.span("more"): pass
deadline = time.monotonic() + 20
while not otelkit.status()["ledger"]["traces"]["adopted"]:
    assert time.monotonic() < deadline
    time.sleep(0.05)
assert otelkit.flush(5).ok
"""
    state = {"OTELKIT_STATE_DIR": str(tmp_path / "state"), "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    beginning = "import os, sys, time, otelkit\notelkit.bootstrap('shop')\n"
    living = start_python(beginning + source, cwd=tmp_path, environ=state)
    try:
        assert living.stdout is not None
        assert living.stdout.readline() == "ready\n"
        # Nobody takes what the other one would send while it ends.
        sink.answer = lambda path: Answer(status=503)
        run_service(LEAVE + "otelkit.shutdown(0.0)\n", sink.port, tmp_path)
        sink.answer = lambda path: Answer()
        _, err = living.communicate("go\n", timeout=30)
        assert living.returncode == 0, err
    finally:
        kill_session(living)
    assert len({span.span_id for span in sink.named("left")}) == 200


@pytest.mark.slow
def test_another_service_and_another_address_are_left_alone(tmp_path: Path, sink: Sink) -> None:
    """Records must not arrive where their service does not send them, with credentials that are not its own."""
    with nobody() as port:
        run_service(LEAVE, port, tmp_path)
        left = sorted(path.stat().st_size for path in tmp_path.glob("state/spool/*/*/*.segment"))
        run_service(NEXT_START, sink.port, tmp_path)
        run_service(NEXT_START, port, tmp_path, service="other", patience_s=1)
    assert sink.named("left") == []
    kept = sorted(path.stat().st_size for path in tmp_path.glob("state/spool/shop-*/*/*.segment"))
    assert kept == left


@pytest.mark.slow
def test_what_nobody_adopts_goes_when_it_is_too_old(tmp_path: Path, sink: Sink) -> None:
    """The service has got another name: a day later its old spool is removed, and one line says what was in it."""
    with nobody() as port:
        run_service(LEAVE, port, tmp_path, service="renamed")
    old = list(tmp_path.glob("state/spool/renamed-*"))
    assert len(old) == 3
    _, said = next_start(sink, tmp_path)
    assert "too old" not in said
    assert all(folder.exists() for folder in old)
    for path in tmp_path.glob("state/spool/renamed-*/*/*.segment"):
        day_ago = time.time() - 86_500
        os.utime(path, (day_ago, day_ago))
    _, said = next_start(sink, tmp_path)
    assert said.count("were too old, and are lost") == 3
    assert "200 records in the spool renamed-" in said
    assert not any(folder.exists() for folder in old)
    assert sink.named("left") == []
