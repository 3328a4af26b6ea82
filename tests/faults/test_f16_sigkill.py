"""SIGKILL: what had reached the spool survives, and the next start says exactly how much had not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.spooled import next_start, nobody, run_service
from tests.support.sink import Sink


@pytest.mark.slow
def test_what_was_spooled_survives_and_the_loss_is_told(tmp_path: Path) -> None:
    """1000 spans during an outage, then seven that never left the queue."""
    source = """
for number in range(1000):
    with otelkit.span("kept"): pass
deadline = time.monotonic() + 20
while otelkit.status()["in_memory"]:
    assert time.monotonic() < deadline, otelkit.status()
    otelkit.flush(1)
for number in range(7):
    with otelkit.span("lost"): pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    with nobody() as port:
        killed = run_service(source, port, tmp_path, check=False, environ={"OTEL_BSP_SCHEDULE_DELAY": "60000"})
        assert killed.code == -9, killed.err
    with Sink(port=port) as sink:
        ledger, said = next_start(sink, tmp_path)
        assert len({span.span_id for span in sink.named("kept")}) == len(sink.named("kept")) == 1000
        assert sink.named("lost") == []
    assert ledger["traces"]["adopted"] == 1000
    assert re.search(r"process \d+ \(shop\) ended with 7 records undelivered", said), said


def test_written_ahead_nothing_is_lost_after_200_ms(tmp_path: Path) -> None:
    """With OTELKIT_SPOOL=always, while nobody listens: spans and an event."""
    source = """
for number in range(1000):
    with otelkit.span("kept"): pass
    otelkit.count("made")
otelkit.event("said")
deadline = time.monotonic() + 20
def waits_in_memory():  # what was collected of the metrics, too
    status = otelkit.status()
    ledger = status["ledger"]
    return status["in_memory"] or ledger["traces"]["spooled"] < 1000 or ledger["logs"]["spooled"] < 2
while waits_in_memory():
    assert time.monotonic() < deadline, otelkit.status()
    time.sleep(0.01)
print(otelkit.status()["ledger"]["traces"]["spooled"], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environ = {"OTELKIT_SPOOL": "always"}
    with nobody() as port:
        killed = run_service(source, port, tmp_path, check=False, environ=environ)
    assert (killed.code, killed.out) == (-9, "1000\n"), killed.err
    with Sink(port=port) as again:
        _, said = next_start(again, tmp_path, environ=environ)
        assert len({span.span_id for span in again.named("kept")}) == 1000
        assert any(log.record.event_name == "said" for log in again.logs)
    assert "undelivered" not in said


def test_written_ahead_is_within_200_ms(tmp_path: Path) -> None:
    """Of the end of the span: five times, among the tries of a machine that may be busy with other things."""
    source = """
def bytes_on_disk():
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk("state/spool") for name in names)
with otelkit.span("first"): pass
time.sleep(0.5)
in_time = 0
for number in range(60):
    before = bytes_on_disk()
    with otelkit.span("timed"): pass
    ended = time.monotonic()
    while bytes_on_disk() == before:
        assert time.monotonic() < ended + 10
        time.sleep(0.002)
    in_time += time.monotonic() - ended < 0.25  # 50 ms for the writing, and for our looking
    if in_time == 5:
        print("in time", flush=True)
        break
os.kill(os.getpid(), signal.SIGKILL)
"""
    with nobody() as port:
        killed = run_service(source, port, tmp_path, check=False, environ={"OTELKIT_SPOOL": "always"})
    assert killed.out == "in time\n", killed.err
