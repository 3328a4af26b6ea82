"""The connection is reset after the collector has taken the request: nothing is lost, at most one batch comes twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.spooled import balanced, run_service
from tests.support.sink import Answer, Sink
from tests.support.slow import slow

SPANS, BATCH = 2000, 250


@pytest.mark.parametrize("spool", ["on", *slow("off", "always")])
def test_unique_records_are_exact(tmp_path: Path, sink: Sink, spool: str) -> None:
    """Whether the batch was taken cannot be known: it is sent again, it alone, and counted once."""
    resets: list[int] = []

    def answer(path: str) -> Answer:
        if path == "/v1/traces" and not resets and len(sink.named("work")) >= BATCH:
            resets.append(len(sink.named("work")))
            return Answer(reset=True)
        return Answer()

    sink.answer = answer
    source = f"""
for number in range({SPANS}):
    with otelkit.span("work", n=number): pass
report = otelkit.flush(20)
print(json.dumps([report.ok, otelkit.status()["ledger"]["traces"]]))
"""
    environ = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(BATCH), "OTELKIT_SPOOL": spool}
    finished = run_service(source, sink.port, tmp_path, environ=environ)
    ok, account = json.loads(finished.out)
    assert ok
    assert balanced(account)
    assert (account["accepted"], account["delivered"], account["dropped"]) == (SPANS, SPANS, {})
    times = Counter(span.attributes["n"] for span in sink.named("work"))
    assert sorted(times) == list(range(SPANS))
    assert len(resets) == 1
    again = sorted(number for number, count in times.items() if count > 1)
    # The very batch that the sink held when it hung up: none at all would mean that it had not been taken.
    assert again == list(range(resets[0], resets[0] + len(again)))
    assert 1 <= len(again) <= BATCH
    assert max(times.values()) == 2
