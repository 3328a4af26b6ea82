"""The process ends with full queues while the collector hangs, on a machine that has no time for it: what cannot be
sent is on disk in the end, and nothing is dropped.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from otelkit.delivery import frames
from otelkit.delivery.ledger import pages
from otelkit.runtime.lifecycle import OWN_WORK_S
from tests.faults.spooled import run_service, segments
from tests.support.busy import busy
from tests.support.process import Finished
from tests.support.sink import Answer, Sink

RECORDS = 25_000
TIMEOUT_S = 0.5
# So that the worker has nothing of it yet as the end comes, the main thread keeps the interpreter to itself.
QUEUED = f"""
sys.setswitchinterval(600)
for number in range({RECORDS}):
    with otelkit.span("work"): pass
    otelkit.event("done")
otelkit.count("made")
print("queued", otelkit.status()["in_memory"] > {2 * RECORDS}, flush=True)
sys.setswitchinterval(0.005)
began = time.monotonic()
"""
ENDS = {
    "shutdown": "otelkit.shutdown()\nprint(time.monotonic() - began)",
    "atexit": "sys.exit()",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)",
}


def end(how: str, sink: Sink, place: Path) -> Finished:
    environ = {
        "OTEL_BSP_MAX_QUEUE_SIZE": str(RECORDS + 1000),
        "OTEL_BLRP_MAX_QUEUE_SIZE": str(RECORDS + 1000),
        "OTELKIT_SHUTDOWN_TIMEOUT_S": str(TIMEOUT_S),
    }
    sink.answer = lambda path: Answer(after_s=120)
    return run_service(QUEUED + ENDS[how], sink.port, place, environ=environ, check=False, deadline_s=90)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.slow
def test_everything_is_on_disk(sink: Sink, tmp_path: Path, how: str) -> None:
    """By each way to end: what was queued is not given up at the network's deadline."""
    with busy(6):
        finished = end(how, sink, tmp_path)
    assert finished.code == (-signal.SIGTERM if how == "SIGTERM" else 0), finished.err
    queued, *took = finished.out.splitlines()
    assert queued == "queued True"
    assert all(float(seconds) < TIMEOUT_S + OWN_WORK_S for seconds in took)
    assert "could not be delivered" not in finished.err
    # The ledger is closed, and its page gone: nobody broke the end off.
    assert list(pages(tmp_path / "state")) == []
    if how != "SIGTERM":  # there the end does not wait for its last line, once everything is on disk
        assert int(re.findall(r"(\d+) records wait in the spool", finished.err)[0]) > 2 * RECORDS
    on_disk = [sum(each.records for each in frames.scan(path.read_bytes())[0]) for path in segments(tmp_path)]
    assert sum(on_disk) > 2 * RECORDS
