"""The collector answers with a redirect: a failure, counted, and never followed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.spooled import balanced, run_service
from tests.support.sink import Answer, Sink
from tests.support.slow import slow

SOURCE = """
for number in range(10):
    with otelkit.span("work"): pass
otelkit.event("done")
otelkit.count("made")
report = otelkit.flush(10)
print(json.dumps([report.ok, otelkit.status()["ledger"]]))
"""


@pytest.mark.parametrize("status", [301, 307, *slow(302, 308)])
def test_a_redirect_is_a_refusal(tmp_path: Path, sink: Sink, status: int) -> None:
    """Following it would send records and credentials to wherever it says; the official exporter calls it SUCCESS."""
    with Sink() as elsewhere:
        sink.answer = lambda path: Answer(status, {"location": f"{elsewhere.url}{path}"})
        finished = run_service(SOURCE, sink.port, tmp_path, environ={"OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=s3cret"})
        assert elsewhere.asked == []
    ok, ledger = json.loads(finished.out)
    assert not ok
    assert ledger["traces"]["dropped"] == {"refused": 10}
    for account in ledger.values():
        assert balanced(account)
        assert (account["delivered"], account["dropped"]) == (0, {"refused": account["accepted"]})
        assert account["accepted"] > 0
    assert f"refused 10 traces with HTTP {status}; they are dropped" in finished.err
