"""A spool that was cut off, or whose bits have changed: the damaged batches are counted, the others arrive."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelkit.delivery import frames
from tests.faults.spooled import balanced, next_start, nobody, run_service, segments
from tests.support.sink import Sink

SPANS = 500
LEAVE = """
for number in range(500):
    with otelkit.span("left", n=number): pass
otelkit.shutdown()
"""


@pytest.mark.parametrize("damage", ["cut off", "a bit of a body", "a bit of a header", "nonsense before and after"])
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


def _spans_in(path: Path) -> int:
    return sum(each.records for each in frames.scan(path.read_bytes())[0])
