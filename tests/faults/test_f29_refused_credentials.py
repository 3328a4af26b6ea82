"""The collector answers 401 or 403: permanent and counted, and the collector is not hammered with what it refuses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.faults.spooled import balanced, run_service
from tests.support.process import kill_session, start_python
from tests.support.sink import Answer, Sink
from tests.support.slow import slow

WATCHED_S = 5.0
MOST_REQUESTS = 8
"""At about one a second at first and fewer later: a batch every 50 ms would be 100."""


@pytest.mark.parametrize("status", [401, *slow(403)])
def test_what_is_refused_is_counted_and_told(tmp_path: Path, sink: Sink, status: int) -> None:
    """By reason, in the ledger and a flush's report, without the credentials; the same batch is not repeated."""
    sink.answer = lambda path: Answer(status)
    source = """
for number in range(10):
    with otelkit.span("work"): pass
report = otelkit.flush(10)
account = otelkit.status()["ledger"]["traces"]
print(json.dumps([report.ok, report.dropped["refused"] >= 10, account]))
"""
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=s3cret"}
    finished = run_service(source, sink.port, tmp_path, environ=environ)
    ok, reported, account = json.loads(finished.out)
    assert (ok, reported) == (False, True)
    assert balanced(account)
    assert (account["accepted"], account["delivered"], account["dropped"]) == (10, 0, {"refused": 10})
    assert [path for path, _ in sink.asked].count("/v1/traces") == 1
    assert f"refused 10 traces with HTTP {status}" in finished.err
    assert "s3cret" not in finished.err


LOAD = """
import json, sys, threading, otelkit
otelkit.bootstrap("shop", otlp_endpoint={url!r})
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set())).start()
while not stop.wait(0.002):
    with otelkit.span("work"): pass
otelkit.shutdown()
print(json.dumps(otelkit.status()["ledger"]["traces"]))
"""


@pytest.mark.slow
def test_under_steady_load_the_requests_become_few(tmp_path: Path, sink: Sink) -> None:
    """A batch is due every 50 ms; and when the credentials are right again, new spans arrive."""
    sink.answer = lambda path: Answer(401)
    process = start_python(LOAD.format(url=sink.url), cwd=tmp_path, environ={"OTEL_BSP_SCHEDULE_DELAY": "50"})
    try:
        deadline = time.monotonic() + 20
        while "/v1/traces" not in dict(sink.asked):
            assert time.monotonic() < deadline, "no request came"
            time.sleep(0.02)
        time.sleep(WATCHED_S)
        asked = [path for path, _ in sink.asked].count("/v1/traces")
        assert asked <= MOST_REQUESTS, f"{asked} requests in {WATCHED_S:g} s"
        sink.answer = lambda path: Answer()
        sink.wait_for(lambda: len(sink.named("work")) > 100, "spans after the refusal", deadline_s=60)
        out, err = process.communicate("stop\n", timeout=30)
        assert process.returncode == 0, err
    finally:
        kill_session(process)
    account = json.loads(out)
    assert balanced(account)
    assert account["dropped"]["refused"] > 0
    # What was acknowledged too late for the end of the process waits in the spool as well.
    received = len({span.span_id for span in sink.named("work")})
    assert 0 < account["delivered"] <= received <= account["delivered"] + account["spooled"]
