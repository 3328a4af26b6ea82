"""No room for the spool: what waits, waits in memory, is counted, and one warning says so."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from tests.faults.spooled import balanced, nobody, run_service, segments
from tests.support.sink import Sink

LIMIT = 40_000
SOURCE = f"""
import resource, secrets, threading
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, resource.RLIM_INFINITY))
for batch in range(40):
    for _ in range(50):
        with otelkit.span("work", noise=secrets.token_hex(40)): pass
    otelkit.flush(0.02)
deadline = time.monotonic() + 10
while otelkit.flush(0.1).spooled == 0 or otelkit.status()["spool"]["failure"] is None:
    assert time.monotonic() < deadline, otelkit.status()
print(json.dumps(otelkit.status()), flush=True)
sys.stdin.readline()
deadline = time.monotonic() + 30
while not otelkit.flush(5).ok:
    assert time.monotonic() < deadline, otelkit.status()
print(json.dumps(otelkit.status()), flush=True)
"""


def test_memory_takes_over(tmp_path: Path) -> None:
    """2000 spans; a segment may have 40 kB (RLIMIT_FSIZE). The collector comes back, and all arrive."""
    from tests.support.process import kill_session, start_python

    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    with nobody() as port:
        process = start_python(
            "import json, sys, time, otelkit\notelkit.bootstrap('shop')\n" + SOURCE,
            cwd=tmp_path,
            environ={
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50",
            },
        )
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first, process.communicate()
            during = json.loads(first)
            account = during["ledger"]["traces"]
            assert account["accepted"] == 2000
            assert account["dropped"] == {}
            assert 0 < account["spooled"] < 2000
            assert "File too large" in during["spool"]["failure"]
            assert all(path.stat().st_size <= LIMIT for path in segments(tmp_path))
            with Sink(port=port) as sink:
                out, err = process.communicate("go\n", timeout=60)
                assert process.returncode == 0, err
                assert len({span.span_id for span in sink.named("work")}) == len(sink.named("work")) == 2000
        finally:
            kill_session(process)
    after = json.loads(out.splitlines()[-1])["ledger"]
    assert all(balanced(found) for found in after.values()), after
    assert err.count("batches cannot be kept on disk") == 1


@pytest.mark.slow
def test_an_end_without_room_counts_what_it_loses(tmp_path: Path) -> None:
    """It cannot be kept, so it is dropped, by a reason."""
    source = SOURCE[: SOURCE.index("deadline")] + "otelkit.shutdown()\nprint(json.dumps(otelkit.status()['ledger']))\n"
    with nobody() as port:
        out = run_service(source, port, tmp_path, environ={"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50"}).out
    account = json.loads(out)["traces"]
    assert account["spooled"] > 0
    assert account["dropped"]["shutdown"] > 0
    assert account["spooled"] + account["dropped"]["shutdown"] == account["accepted"] == 2000
