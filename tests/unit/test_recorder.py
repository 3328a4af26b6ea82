"""The flight recorder's ring: what is in flight, what has ended and is not released, as another process reads it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from opentelemetry.trace import SpanKind, StatusCode

from otelkit.delivery import causes, recovery, ring
from otelkit.delivery.options import RecorderOptions
from otelkit.delivery.recorder import Recorder
from otelkit.delivery.records import Shared
from otelkit.delivery.wire import sized
from otelkit.signals.redaction import Redaction
from tests.support.records import ALog

U64 = st.integers(1, 2**64 - 1)


def options(folder: Path) -> RecorderOptions:
    return RecorderOptions(folder / "state" / "recorder" / "shop", "shop", {"service.name": "shop"}, Redaction())


def a_recorder(folder: Path) -> Recorder:
    made = Recorder(options(folder), 7, lambda: None)
    made.arm()
    return made


def a_span(number: int, name: Any = "work", **more: Any) -> Any:
    fields: dict[str, Any] = {
        "name": name,
        "trace_id": number << 64 | 5,
        "span_id": number,
        "parent_id": 3,
        "start_time": 1000 + number,
        "end_time": None,
        "flags": 0x101,
        "kind": SpanKind.SERVER,
        "shared": None,
        "bound": None,
        "own": None,
        "details": None,
    }
    return SimpleNamespace(**{**fields, **more})


def slots(folder: Path) -> list[ring.Slot]:
    (path,) = folder.rglob("*.ring")
    return list(ring.read(path.read_bytes())[1])


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Recorder]:
    made = a_recorder(tmp_path)
    yield made
    made.close()


class Flights(RuleBasedStateMachine):
    """Spans that begin, end and are released in any order, and log records: the file always says who is where."""

    spans = Bundle("spans")
    ended = Bundle("ended")
    logs = Bundle("logs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(os.environ["RECORDER_TEST_FOLDER"]) / str(id(self))
        self.recorder = a_recorder(self.folder)
        self.model: dict[int, tuple[int, str, int]] = {}
        self.number = 0

    def next(self) -> int:
        self.number += 1
        return self.number

    @rule(target=spans, name=st.text(max_size=200))
    def begin(self, name: str) -> Any:
        span = a_span(self.next(), name)
        self.recorder.began(span)
        self.model[span.span_id] = (ring.OPEN, name, 0)
        return span

    @rule(target=ended, span=consumes(spans), end=U64)
    def end(self, span: Any, end: int) -> Any:
        span.end_time = end
        self.recorder.ended(span)
        self.model[span.span_id] = (ring.ENDED, span.name, end)
        return span

    @rule(target=logs, body=st.one_of(st.none(), st.integers(), st.text(max_size=500)), observed=U64)
    def log(self, body: Any, observed: int) -> Any:
        record = ALog(body=body, span_id=self.next(), observed_timestamp=observed, severity_number=9)
        self.recorder.log(record)
        self.model[record.span_id] = (ring.LOG, "", observed)
        return record

    @rule(record=st.one_of(consumes(ended), consumes(logs)))
    def release(self, record: Any) -> None:
        self.recorder.release([record])
        del self.model[record.span_id]

    @rule(record=st.one_of(spans, ended, logs))
    def end_of_another(self, record: Any) -> None:
        """A span of another process, which a fork left here, has a slot that is not its own."""
        self.recorder.ended(a_span(2**63, slot=getattr(record, "slot", 0)))

    @rule()
    def tend(self) -> None:
        self.recorder.tend()

    @invariant()
    def the_file_says_so(self) -> None:
        if not self.model:
            return
        found = {slot.span_id: slot for slot in slots(self.folder)}
        assert {number: (slot.state, slot.end_ns) for number, slot in found.items()} == {
            number: (state, end) for number, (state, _, end) in self.model.items()
        }
        for number, (_, name, _) in self.model.items():
            told = found[number].name
            assert name.encode("utf-8", "replace").decode().startswith(told)
            assert told == name or len(told.encode()) > ring.NAME_BYTES - 4

    def teardown(self) -> None:
        self.recorder.close()
        assert not list(self.folder.rglob("*.ring"))


@pytest.mark.slow
def test_the_file_says_who_is_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setenv("RECORDER_TEST_FOLDER", str(tmp_path))
    run_state_machine_as_test(Flights, settings=settings(max_examples=50, stateful_step_count=30, deadline=None))


def test_a_span_is_read_as_it_was_written(made: Recorder, tmp_path: Path) -> None:
    shared = Shared({"route": "/x"})
    shared.encoded = {b"\x4a": sized(b"\x4a", b"\x0a\x01r")}
    span = a_span(2**64 - 1, trace_id=2**128 - 2, start_time=1000, shared=shared)
    made.began(span)
    span.end_time = 2000
    span.details = SimpleNamespace(status=SimpleNamespace(status_code=StatusCode.ERROR))
    made.ended(span)
    (slot,) = slots(tmp_path)
    assert slot == ring.Slot(
        ring.ENDED, 2**128 - 2, 2**64 - 1, 3, 1000, 2000, 0x101, SpanKind.SERVER.value, 2, "work", b"\x4a\x03\x0a\x01r"
    )


@given(resource=st.dictionaries(st.text(max_size=40), st.one_of(st.text(max_size=900), st.integers(), st.booleans())))
def test_a_header_has_room_for_some_of_any_resource(resource: dict[str, Any]) -> None:
    about = ring.About(1, 2, 3, 4, "boot", "shop", resource)
    content = ring.header(about)
    assert len(content) == ring.HEADER_BYTES
    found, none = ring.read(content)
    assert (found.pid, found.started_ns, found.alive_ns, found.oom_kills) == (1, 2, 3, 4)
    assert (found.boot_id, found.service) == ("boot", "shop")
    assert found.resource.items() <= resource.items()
    assert list(none) == []


@given(content=st.binary(max_size=300))
def test_what_is_no_ring_is_an_error_and_no_crash(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ring.read(content)


def test_the_worker_adds_what_a_span_has_of_its_own(made: Recorder, tmp_path: Path) -> None:
    """Redacted, and again when it has got more; what has no room is cut between attributes when it is read."""
    span = a_span(1, own={"order": 7, "password": "c4n4ry"}, bound=Shared({"tenant": "t"}))
    made.began(span)
    assert slots(tmp_path)[0].content == b""
    made.tend()
    (slot,) = slots(tmp_path)
    assert b"c4n4ry" not in slot.content
    assert all(part in slot.content for part in (b"order", b"password", b"[REDACTED]", b"tenant"))
    span.own["later"] = "x" * 1000
    made.tend()
    (slot,) = slots(tmp_path)
    assert b"later" in slot.content
    assert len(slot.content) == ring.CONTENT_BYTES
    whole = recovery._whole_fields(slot.content)
    assert b"order" in whole
    assert b"later" not in whole


def test_secrets_in_log_lines_are_not_noted(made: Recorder, tmp_path: Path) -> None:
    made.log(ALog(body="Bearer abcdefgh12345678ijkl", observed_timestamp=1))
    (slot,) = slots(tmp_path)
    assert slot.content == b"[REDACTED]"


def test_odd_values_are_counted_and_raise_nothing(made: Recorder) -> None:
    made.began(a_span(1, start_time=-1))
    made.began(a_span(1, start_time=None))
    made.began(a_span(1, name=None))
    made.log(ALog(body="x", timestamp=2**70))
    made.ended(a_span(9))
    assert made.describe()["missed"] == 5
    made.began(a_span(2))
    assert made.describe()["in_flight"] == 1


def test_a_full_ring_counts_what_has_no_room(made: Recorder, tmp_path: Path) -> None:
    spans = [a_span(number + 1) for number in range(ring.SLOTS + 3)]
    for span in spans:
        made.began(span)
    assert made.describe()["in_flight"] == ring.SLOTS
    assert made.missed == 3
    for span in spans[:10]:
        span.end_time = 5
        made.ended(span)
    made.began(a_span(99_999))
    assert made.missed == 3
    assert sum(slot.state == ring.OPEN for slot in slots(tmp_path)) == ring.SLOTS - 9


def test_spans_that_never_end_give_their_slots_up(made: Recorder) -> None:
    """Where slots are few, also those that the worker described long before; else a leak would end the recording."""
    for number in range(100):
        made.began(a_span(number + 100_000))
    made.tend()
    assert made.describe()["in_flight"] == 100
    for number in range(ring.SLOTS - 110):
        made.began(a_span(number + 1))  # long ago
    made.tend()
    assert made.describe()["in_flight"] != ring.SLOTS - 10
    assert not any(span.span_id >= 100_000 for span in made._open.values())
    for number in range(100):
        made.began(a_span(number + 10_000))
    assert made.missed == 0


def test_nothing_is_made_before_it_is_armed(tmp_path: Path) -> None:
    unarmed = Recorder(options(tmp_path), 7, lambda: None)
    unarmed.began(a_span(1))
    unarmed.log(ALog(body="x"))
    assert not list(tmp_path.iterdir())
    assert unarmed.missed == 0


@pytest.mark.parametrize(
    ("traceback", "boot", "kills", "name"),
    [
        ("Fatal Python error: Aborted\n\nThread", "this", 1, "crash"),
        ("", "another", 1, "host_restart"),
        ("", "this", 0, "out_of_memory"),
        ("", "this", 1, "killed"),
    ],
)
def test_the_cause_is_told_as_far_as_it_is_known(
    traceback: str, boot: str, kills: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control groups count the processes that they killed."""
    (tmp_path / "boot_id").write_text("this\n")
    (tmp_path / "cgroup").write_text("1:name=systemd:/x\n0::/pods/a\n")
    group = tmp_path / "root" / "pods" / "a"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n")
    monkeypatch.setattr(causes, "_BOOT_ID", tmp_path / "boot_id")
    monkeypatch.setattr(causes, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(causes, "_GROUPS_ROOT", tmp_path / "root")
    assert causes.cause_of(ring.About(1, 2, 3, kills, boot, "shop", {}), traceback).name == name


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        ("0::/pods/a", "pods/a/memory.events"),
        ("0::/../a", "memory.events"),
        ("0::/\n4:memory:/pods/a", "memory/pods/a/memory.oom_control"),
        ("4:cpu,memory:/docker/a", "memory/memory.oom_control"),
        ("1:name=systemd:/x", None),
    ],
    ids=["v2", "v2, another's path", "v1 beside v2", "v1, the host's path", "without memory"],
)
def test_the_kills_of_a_control_group_are_read(
    groups: str, file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From files as the kernel writes them, with either version of control groups, in containers too."""
    (tmp_path / "cgroup").write_text(groups + "\n")
    if file is not None:
        (tmp_path / "root" / file).parent.mkdir(parents=True)
        (tmp_path / "root" / file).write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    monkeypatch.setattr(causes, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(causes, "_GROUPS_ROOT", tmp_path / "root")
    assert causes.oom_kills() == (0 if file is None else 3)


def test_a_living_processs_ring_is_not_for_the_taking(made: Recorder, tmp_path: Path) -> None:
    made.began(a_span(1))
    folder = options(tmp_path).folder
    assert list(recovery.take(folder)) == []
    assert slots(tmp_path)


def test_a_file_that_is_no_ring_is_removed_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "otelkit")
    (tmp_path / "1-2.ring").write_bytes(b"something else")
    assert list(recovery.take(tmp_path)) == []
    assert "1-2.ring is no ring" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(ring.header(ring.About(1, 2, 3, 4, "", "shop", {})))
    (tmp_path / "1-2.ring").symlink_to(target)
    assert list(recovery.take(tmp_path)) == []
    assert target.exists()
