"""The process ends while the collector hangs, three signals: within 2 s in all, and the rest is spooled."""

from __future__ import annotations

from pathlib import Path

from tests.faults.spooled import next_start, run_service
from tests.support.sink import Answer, Sink

SOURCE = """
for number in range(1500):
    with otelkit.span("work"):
        otelkit.count("made")
        otelkit.event("done", n=number)
started = time.monotonic()
report = otelkit.shutdown()
print(time.monotonic() - started < 2.3, report.ok, report.in_memory, dict(report.dropped), flush=True)
"""


def test_an_end_while_nobody_answers(tmp_path: Path, sink: Sink) -> None:
    """All that was accepted arrives after the next start."""
    sink.answer = lambda path: Answer(after_s=60)
    finished = run_service(SOURCE, sink.port, tmp_path)
    assert finished.out == "True False 0 {}\n", finished.err
    sink.spans.clear()
    sink.logs.clear()
    sink.metrics.clear()
    sink.answer = lambda path: Answer()
    ledger, _ = next_start(sink, tmp_path)
    assert len({span.span_id for span in sink.named("work")}) == 1500
    assert len({log.attributes["n"] for log in sink.logs if log.record.event_name == "done"}) == 1500
    assert sink.total("made") == 1500
    assert ledger["traces"]["spooled"] == 0
