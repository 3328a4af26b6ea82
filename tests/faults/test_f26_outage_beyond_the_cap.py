"""An outage that is longer than the spool is large: the oldest go, and the count of them is exact."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.spooled import balanced, next_start, nobody, run_service, segments
from tests.support.sink import Sink


def test_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    """What arrives are the newest, and they and the dropped are all there were."""
    source = """
import secrets
made = 0
for batch in range(60):
    for _ in range(50):
        with otelkit.span("work", n=made, noise=secrets.token_hex(40)): pass  # does not compress
        made += 1
    otelkit.flush(0.02)
deadline = time.monotonic() + 20
while otelkit.status()["in_memory"]:
    assert time.monotonic() < deadline, otelkit.status()
    otelkit.flush(0.1)
otelkit.shutdown()
print(json.dumps([made, otelkit.status()["ledger"]["traces"]]))
"""
    environ = {"OTELKIT_SPOOL_MAX_BYTES": "100000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50"}
    with nobody() as port:
        finished = run_service(source, port, tmp_path, environ=environ)
    made, account = json.loads(finished.out.splitlines()[-1])
    assert made == account["accepted"] == 3000
    assert balanced(account), account
    assert set(account["dropped"]) == {"spool_full"}
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 100_000
    with Sink(port=port) as sink:
        ledger, _ = next_start(sink, tmp_path, environ=environ)
        numbers = {span.attributes["n"] for span in sink.named("work")}
    assert len(numbers) == account["spooled"] == ledger["traces"]["adopted"]
    # The two oldest batches were in memory, to be tried again and again.
    probes = {number for number in numbers if number < 100}
    assert numbers - probes == set(range(3000 - len(numbers - probes), 3000))
    assert len(numbers) + account["dropped"]["spool_full"] == 3000
