"""Row 16 with the flight recorder, and the kernel as the killer: a process that is out of memory in its control group
leaves the spans that it was in, and the next one says why it died.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.spooled import NEXT_START, run_service
from tests.support.process import Finished
from tests.support.sink import Sink

ROOT = Path("/sys/fs/cgroup")
ROOM_BYTES = 256 * 1024 * 1024


@dataclass
class Group:
    """A control group with ROOM_BYTES of memory, and where the kernel counts whom it has killed in it."""

    path: Path
    counts: Path

    @property
    def kills(self) -> int:
        return int(self.counts.read_text().split("oom_kill ")[1].split()[0])


@pytest.fixture
def group() -> Iterator[Group]:
    """One of our own at the root of the hierarchy; the test is skipped where there can be none."""
    first = (ROOT / "memory").is_dir()
    path = (ROOT / "memory" if first else ROOT) / f"otelkit-test-{os.getpid()}-{time.time_ns()}"
    limit, swap, counts = (
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control")
        if first
        else ("memory.max", "memory.swap.max", "memory.events")
    )
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        try:
            (path / limit).write_text(str(ROOM_BYTES))
            if (path / swap).exists():
                (path / swap).write_text(str(ROOM_BYTES if first else 0))
        except OSError as error:
            pytest.skip(f"the memory of a control group cannot be bounded: {error}")
        yield Group(path, path / counts)
    finally:
        remove(path)


def remove(path: Path) -> None:
    """The kernel may still be busy with who was in it."""
    deadline = time.monotonic() + 10
    while True:
        try:
            path.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


# Before the first record, which notes how many the group has killed.
JOIN = """
with open(os.environ["TEST_GROUP"], "w") as group:
    group.write(str(os.getpid()))
"""
OUT_OF_MEMORY = """
import logging
with otelkit.span("outer"):
    logging.getLogger("shop").warning("the last words")
    with otelkit.span("before"): pass
    with otelkit.span("inner"):
        held = []
        for _ in range(1000):
            held.append(b"x" * (1 << 20))
        print("there was room")
"""
KILLED = """
with otelkit.span("later"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_start_sends_what_it_was_doing_and_says_why(sink: Sink, tmp_path: Path, group: Group) -> None:
    """And who is killed in the same group afterwards, by somebody else, was not out of memory."""

    def run(source: str, **more: Any) -> Finished:
        environ = {"OTELKIT_RECORDER": "on", "TEST_GROUP": str(group.path / "cgroup.procs")}
        return run_service(JOIN + source, sink.port, tmp_path, environ=environ, **more)

    finished = run(OUT_OF_MEMORY, check=False)
    assert (finished.code, finished.out, group.kills) == (-9, "", 1)
    assert "2 spans were in flight" in run(NEXT_START).err
    spans = {span.name: span for span in sink.spans}
    assert {name for name, span in spans.items() if "otelkit.unfinished" in span.attributes} == {"outer", "inner"}
    assert spans["inner"].parent_id == spans["before"].parent_id == spans["outer"].span_id
    assert [log.body for log in sink.logs if log.record.event_name == ""] == ["the last words"]
    (died,) = (log for log in sink.logs if log.record.event_name == "otelkit.process.died")
    assert died.attributes["otelkit.process.ended_by"] == "out_of_memory"
    assert "out of memory" in died.body
    assert died.record.span_id.hex() == spans["inner"].span_id

    assert run(KILLED, check=False).code == -9
    run(NEXT_START)
    causes = [log.attributes.get("otelkit.process.ended_by") for log in sink.logs]
    assert [cause for cause in causes if cause is not None] == ["out_of_memory", "killed"]
    assert group.kills == 1
