"""A spool that was cut off, or whose bits have changed: the damaged batches are counted, the others arrive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otelkit.delivery import frames
from otelkit.delivery.ledger import pages
from tests.faults.spooled import balanced, next_start, nobody, run_service, segments
from tests.support.sink import Sink
from tests.support.slow import slow

SPANS = 500
LEAVE = """
for number in range(500):
    with otelkit.span("left", n=number): pass
otelkit.shutdown()
"""


@pytest.mark.parametrize(
    "damage", ["cut off", "a bit of a body", *slow("a bit of a header", "nonsense before and after")]
)
def test_the_rest_arrives(tmp_path: Path, damage: str) -> None:
    """Batches in one segment, of which one is hit; how many spans are in one is the moment's chance."""
    with nobody() as port:
        run_service(LEAVE, port, tmp_path, environ={"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50"})
    (path,) = [path for path in segments(tmp_path) if _spans_in(path) == SPANS]
    content = bytearray(path.read_bytes())
    found, _ = frames.scan(bytes(content))
    assert len(found) >= SPANS / 50
    lost = 0
    if damage == "cut off":
        del content[found[-1].end - 3 :]
        lost = found[-1].records
    elif damage == "a bit of a body":
        content[found[4].offset + frames.HEADER_BYTES + 7] ^= 0x10
        lost = found[4].records
    elif damage == "a bit of a header":
        content[found[4].offset + 9] ^= 0x01
        lost = found[4].records
    else:
        content = bytearray(b"OTKF nonsense") + content + b"OTKF and more of it"
    path.write_bytes(content)
    with Sink(port=port) as sink:
        ledger, said = next_start(sink, tmp_path)
        arrived = {span.attributes["n"] for span in sink.named("left")}
    account = ledger["traces"]
    assert balanced(account), account
    assert len(arrived) == SPANS - lost
    assert account["dropped"] == ({"spool_damaged": lost} if lost else {})
    assert account["adopted"] == SPANS
    if damage == "a bit of a header":
        assert f"{lost} traces in the spool of an ended process are damaged, and lost" in said


KILLED_AT = """
import os
real, calls = os.pwrite, 0
def torn(fd, content, offset):
    global calls
    calls += 1
    if calls > {whole}:
        real(fd, content[: len(content) // 2], offset)
        os.kill(os.getpid(), 9)
    return real(fd, content, offset)
os.pwrite = torn
for number in range(500):
    with otelkit.span("left", n=number): pass
otelkit.flush(5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("half", ["body", "header"])
def test_a_batch_whose_writer_was_killed_is_no_damaged_one(tmp_path: Path, half: str) -> None:
    """In the middle of the write, by SIGKILL: its records were in memory, which the next start tells, and nobody counts
    them once more.
    """
    whole = 6 if half == "body" else 7  # two writes a batch
    # Few writes before it: the log records wait.
    environ = {
        "OTELKIT_SPOOL": "always",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50",
        "OTEL_BLRP_SCHEDULE_DELAY": "60000",
        "OTEL_METRIC_EXPORT_INTERVAL": "60000",
    }
    with nobody() as port:
        killed = run_service(KILLED_AT.format(whole=whole), port, tmp_path, environ=environ, check=False)
        assert killed.code == -9, killed.err
        (page,) = [page for _, page in pages(tmp_path / "state")]
        before = page.accounts["traces"]
        assert before.spooled >= 50
        assert before.outstanding >= 50
    with Sink(port=port) as sink:
        ledger, said = next_start(sink, tmp_path)
        assert len({span.attributes["n"] for span in sink.named("left")}) == before.spooled
    assert f"ended with {page.outstanding} records undelivered" in said
    assert (ledger["traces"]["adopted"], ledger["traces"]["dropped"]) == (before.spooled, {})


@pytest.mark.slow
def test_what_is_damaged_is_counted_by_one_process_alone(tmp_path: Path) -> None:
    """Of those that take the spool over one after the other, while the outage goes on."""
    with nobody() as port:
        run_service(LEAVE, port, tmp_path, environ={"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50"})
        (path,) = [path for path in segments(tmp_path) if _spans_in(path) == SPANS]
        content = bytearray(path.read_bytes())
        hit = frames.scan(bytes(content))[0][4]
        content[hit.offset + 9] ^= 0x01
        path.write_bytes(content)
        adopts = """
with otelkit.span("first"): pass
deadline = time.monotonic() + PATIENCE_S
while not otelkit.status()["ledger"]["traces"]["adopted"]:
    assert time.monotonic() < deadline, otelkit.status()
    time.sleep(0.05)
print(json.dumps(otelkit.status()["ledger"]["traces"]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
        first = run_service(adopts, port, tmp_path, check=False)
        account = json.loads(first.out)
        assert (account["adopted"], account["dropped"]) == (SPANS, {"spool_damaged": hit.records})
    with Sink(port=port) as sink:
        ledger, _ = next_start(sink, tmp_path)
        assert len({span.attributes["n"] for span in sink.named("left")}) == SPANS - hit.records
    assert (ledger["traces"]["adopted"], ledger["traces"]["dropped"]) == (SPANS - hit.records, {})


def _spans_in(path: Path) -> int:
    return sum(each.records for each in frames.scan(path.read_bytes())[0])
