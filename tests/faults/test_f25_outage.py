"""Seconds, and a minute, without a collector, then it is back: every record arrives, and the ledger says so."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.faults.spooled import balanced, nobody
from tests.support.process import kill_session, start_python
from tests.support.sink import Sink


@pytest.mark.timeout(200)
@pytest.mark.parametrize("outage_s", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_all_that_was_accepted_arrives(tmp_path: Path, outage_s: int) -> None:
    """Live records go on meanwhile; the metrics' sum is the newest."""
    with nobody() as port:
        process = start_python(
            f"""
            import json, sys, threading, time, otelkit
            otelkit.bootstrap("shop", otlp_endpoint="http://127.0.0.1:{port}")
            stop = threading.Event()
            threading.Thread(target=lambda: (sys.stdin.readline(), stop.set())).start()
            print("running", flush=True)
            while not stop.wait(0.01):
                for _ in range(5):
                    with otelkit.span("work"):
                        otelkit.count("made")
            deadline = time.monotonic() + 60
            while not (report := otelkit.flush(5)).ok:
                assert time.monotonic() < deadline, report
            print(json.dumps(otelkit.status()["ledger"]), flush=True)
            """,
            cwd=tmp_path,
            environ={"OTEL_METRIC_EXPORT_INTERVAL": "5000"},
        )
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "running\n"
            time.sleep(outage_s)
            with Sink(port=port) as sink:
                sink.wait_for(lambda: len(sink.named("work")) > 1000, "the first spans", deadline_s=60)
                out, err = process.communicate("stop\n", timeout=90)
                assert process.returncode == 0, err
                ledger = json.loads(out.splitlines()[-1])
                spans = sink.named("work")
                assert len({span.span_id for span in spans}) == len(spans) == ledger["traces"]["accepted"]
                assert sink.one_series("made")[-1] == len(spans)
        finally:
            kill_session(process)
    assert all(balanced(account) for account in ledger.values()), ledger
    assert ledger["traces"]["dropped"] == ledger["logs"]["dropped"] == {}
    assert set(ledger["metrics"]["dropped"]) <= {"superseded"}
