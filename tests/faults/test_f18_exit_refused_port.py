"""The process ends while the collector's port refuses, with a deep queue: within 2 s, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

from tests.faults.spooled import next_start, nobody, run_service
from tests.support.sink import Sink


def test_an_end_while_the_port_refuses(tmp_path: Path) -> None:
    """5000 spans and as many log records; the end is much faster than its time, since waiting would be in vain."""
    source = """
for number in range(5000):
    with otelkit.span("work"):
        otelkit.event("done", n=number)
started = time.monotonic()
report = otelkit.shutdown()
print(time.monotonic() - started < 2.3, report.ok, report.in_memory, dict(report.dropped), report.spooled >= 10_000)
"""
    environ = {"OTEL_BSP_MAX_QUEUE_SIZE": "6000", "OTEL_BLRP_MAX_QUEUE_SIZE": "6000"}
    with nobody() as port:
        finished = run_service(source, port, tmp_path, environ=environ)
    assert finished.out == "True False 0 {} True\n", finished.err
    with Sink(port=port) as sink:
        next_start(sink, tmp_path)
        assert len({span.span_id for span in sink.named("work")}) == 5000
        assert len({log.attributes["n"] for log in sink.logs if log.record.event_name == "done"}) == 5000
