"""Fault 7: a forked child forks. Telemetry works in each process, and each sends what is its own, once."""

from __future__ import annotations

from pathlib import Path

from tests.support.process import run_python
from tests.support.sink import Sink


def test_each_generation_sends_its_own(sink: Sink, tmp_path: Path) -> None:
    """Four generations, each of which has nine spans queued as the next one is forked, and one that it ends after."""
    source = f"""
    import os, otelkit
    otelkit.bootstrap("forks", otlp_endpoint={sink.url!r}, bsp_schedule_delay_s=60)
    for generation in range(4):
        for number in range(9):
            with otelkit.span(f"generation {{generation}}"): pass
        otelkit.count("made", 9)
        child = os.fork() if generation < 3 else None
        if child != 0:
            break
    with otelkit.span(f"generation {{generation}}"): pass
    assert child is None or os.waitpid(child, 0)[1] == 0
    report = otelkit.flush(10)
    assert report.ok, report
    if generation:
        os._exit(0)
    """
    run_python(source, cwd=tmp_path)
    processes = set()
    for generation in range(4):
        spans = sink.named(f"generation {generation}")
        assert len({span.span_id for span in spans}) == len(spans) == 10
        (process,) = {(span.resource["process.pid"], span.resource["service.instance.id"]) for span in spans}
        processes.add(process)
    assert len({pid for pid, _ in processes}) == len({instance for _, instance in processes}) == 4
    assert sink.total("made") == 36
