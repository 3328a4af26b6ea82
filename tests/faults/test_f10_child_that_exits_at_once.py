"""A forked child calls os._exit: its parent's spool is intact, and nothing is sent twice."""

from __future__ import annotations

from pathlib import Path

from tests.faults.spooled import next_start, nobody, run_service
from tests.support.sink import Sink


def test_the_parents_spool_stays_the_parents(tmp_path: Path) -> None:
    """500 spans in the spool, 500 in the queue, a child that ends without a word, and one that flushes."""
    source = """
def spool(spans):
    deadline = time.monotonic() + PATIENCE_S
    while otelkit.status()["ledger"]["traces"]["spooled"] != spans:  # a busy machine may need more than one second
        assert time.monotonic() < deadline, otelkit.status()
        otelkit.flush(1)
for number in range(500):
    with otelkit.span("parent"): pass
spool(500)
for number in range(500):
    with otelkit.span("parent"): pass
for flushes in (False, True):
    child = os.fork()
    if child == 0:
        with otelkit.span("child"): pass
        if flushes:
            spool(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
assert otelkit.status()["ledger"]["traces"]["spooled"] >= 500
"""
    with nobody() as port:
        run_service(source, port, tmp_path, deadline_s=70.0)
    with Sink(port=port) as sink:
        next_start(sink, tmp_path)
        assert len({span.span_id for span in sink.named("parent")}) == len(sink.named("parent")) == 1000
        assert len(sink.named("child")) == 1
