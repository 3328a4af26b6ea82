"""Fault 1: the process forks with nine records queued: the parent sends its nine, the child sends none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.slow import slow

PATIENT = {"OTELKIT_SHUTDOWN_TIMEOUT_S": "10", "OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_BLRP_SCHEDULE_DELAY": "60000"}
ENDINGS = {
    "flushes": "os._exit(0 if otelkit.flush(10).ok else 1)",
    "shuts down": "os._exit(0 if otelkit.shutdown(10).ok else 1)",
    "ends as a program": "sys.exit(0)",
}


@pytest.mark.parametrize("emits", [True, *slow(False)], ids=["emits", "silent"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_parent_sends_nine_and_the_child_its_own(sink: Sink, tmp_path: Path, ending: str, emits: bool) -> None:
    """However the child ends, with a record of its own or without one."""
    source = f"""
    import os, sys, otelkit
    otelkit.bootstrap("forks", otlp_endpoint={sink.url!r})
    for number in range(9):
        with otelkit.span("parents"): pass
        otelkit.event("parents")
    child = os.fork()
    if child == 0:
        if {emits}:
            with otelkit.span("childs"): pass
            otelkit.event("childs")
        {ENDINGS[ending]}
    assert os.waitpid(child, 0)[1] == 0
    print(child)
    """
    child = int(run_python(source, cwd=tmp_path, environ=PATIENT).out)
    assert len({span.span_id for span in sink.named("parents")}) == len(sink.named("parents")) == 9
    assert [log.record.event_name for log in sink.logs].count("parents") == 9
    assert len(sink.named("childs")) == [log.record.event_name for log in sink.logs].count("childs") == int(emits)
    (parent,) = {_identity(span.resource) for span in sink.named("parents")}
    for span in sink.named("childs"):
        assert span.resource["process.pid"] == child != parent[0]
        assert span.resource["service.instance.id"] != parent[1]


def _identity(resource: dict[str, object]) -> tuple[object, object]:
    return resource["process.pid"], resource["service.instance.id"]
