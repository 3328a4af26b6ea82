"""Four threads record 50 000 spans each, more than the queue takes: the ledger is exact to the span."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.spooled import balanced, next_start, nobody, run_service
from tests.support.sink import Sink

SOURCE = """
import threading
barrier = threading.Barrier(4)
def emit():
    barrier.wait()
    for number in range(50_000):
        with otelkit.span("work"): pass
threads = [threading.Thread(target=emit) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
report = otelkit.flush(PATIENCE_S)
print(json.dumps([report.ok, report.in_memory, otelkit.status()["ledger"]["traces"]]))
"""
QUEUE = {"OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}


def test_what_fitted_arrived_and_what_did_not_is_counted(tmp_path: Path, sink: Sink) -> None:
    """Once each; a flush is no success where something was dropped during it, and all of this was before."""
    finished = run_service(SOURCE, sink.port, tmp_path, patience_s=60, environ=QUEUE, deadline_s=100)
    ok, in_memory, account = json.loads(finished.out)
    assert (ok, in_memory) == (True, 0)
    assert account["accepted"] == 200_000
    assert balanced(account)
    assert set(account["dropped"]) == {"queue_full"}
    assert len({span.span_id for span in sink.named("work")}) == len(sink.named("work")) == account["delivered"] > 0


@pytest.mark.slow
def test_so_it_is_while_nobody_listens(tmp_path: Path) -> None:
    """The rest is on disk and in memory, to the span, and is what the next process delivers."""
    with nobody() as port:
        finished = run_service(SOURCE, port, tmp_path, patience_s=1, environ=QUEUE, deadline_s=100)
    ok, in_memory, account = json.loads(finished.out)
    assert not ok
    assert (account["accepted"], account["delivered"]) == (200_000, 0)
    assert balanced(account, in_memory)
    assert set(account["dropped"]) == {"queue_full"}
    with Sink(port=port) as sink:
        ledger, _ = next_start(sink, tmp_path, environ=QUEUE)
        arrived = len({span.span_id for span in sink.named("work")})
    assert arrived == 200_000 - account["dropped"]["queue_full"] == ledger["traces"]["adopted"]
