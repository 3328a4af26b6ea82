"""200 000 spans while the port refuses: memory is bounded, and below the spool's cap nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.spooled import balanced, next_start, nobody, run_service
from tests.support.sink import Sink

SPANS = 200_000


@pytest.mark.timeout(400)
@pytest.mark.slow
def test_memory_is_bounded_and_nothing_is_lost(tmp_path: Path) -> None:
    """The queue is waited for, as no application would: its bound is not what is tried here."""
    source = f"""
import resource
def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
def in_memory():
    return otelkit.status()["in_memory"]
sizes = []
for number in range({SPANS}):
    with otelkit.span("work", n=number): pass
    if number % 1000 == 999:
        deadline = time.monotonic() + 30
        while in_memory() > 1000:
            assert time.monotonic() < deadline, otelkit.status()
            time.sleep(0.001)
        sizes.append(resident_mb())
otelkit.shutdown()
print(json.dumps([sizes[20], max(sizes), otelkit.status()["ledger"]["traces"]]))
"""
    with nobody() as port:
        finished = run_service(source, port, tmp_path, deadline_s=150)
    early_mb, most_mb, account = json.loads(finished.out.splitlines()[-1])
    assert (account["accepted"], account["spooled"], account["dropped"]) == (SPANS, SPANS, {})
    assert balanced(account)
    assert most_mb - early_mb < 10
    with Sink(port=port) as sink:
        next_start(sink, tmp_path, patience_s=150)
        assert len({span.span_id for span in sink.named("work")}) == SPANS
