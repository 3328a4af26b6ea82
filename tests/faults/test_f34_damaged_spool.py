"""A spool that was cut off, or whose bits have changed: the damaged batches are counted, the others arrive."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelkit.delivery import frames
from tests.faults.spooled import balanced, next_start, nobody, run_service, segments
from tests.support.sink import Sink

BATCH = 50
LEAVE = """
for number in range(500):
    with otelkit.span("left", n=number): pass
otelkit.shutdown()
"""


@pytest.mark.parametrize("damage", ["cut off", "a bit of a body", "a bit of a header", "nonsense before and after"])
def test_the_rest_arrives(tmp_path: Path, damage: str) -> None:
    """Ten batches in one segment."""
    with nobody() as port:
        run_service(LEAVE, port, tmp_path, environ={"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(BATCH)})
    (path,) = [path for path in segments(tmp_path) if len(frames.scan(path.read_bytes())[0]) == 10]
    content = bytearray(path.read_bytes())
    found, _ = frames.scan(bytes(content))
    if damage == "cut off":
        del content[found[-1].end - 3 :]
    elif damage == "a bit of a body":
        content[found[4].offset + frames.HEADER_BYTES + 7] ^= 0x10
    elif damage == "a bit of a header":
        content[found[4].offset + 9] ^= 0x01
    else:
        content = bytearray(b"OTKF nonsense") + content + b"OTKF and more of it"
    path.write_bytes(content)
    with Sink(port=port) as sink:
        ledger, said = next_start(sink, tmp_path)
        arrived = {span.attributes["n"] for span in sink.named("left")}
    account = ledger["traces"]
    assert balanced(account), account
    if damage == "nonsense before and after":
        assert (len(arrived), account["dropped"]) == (500, {})
    else:
        assert (len(arrived), account["dropped"]) == (450, {"spool_damaged": 50})
        assert account["adopted"] == 500
    if damage == "a bit of a header":
        assert "50 traces in the spool of an ended process are damaged, and lost" in said
