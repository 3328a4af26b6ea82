"""The processes that report their metrics as one: who belongs together, who leads, and what is left of who ended."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otelkit.engine import locks
from otelkit.engine.group import Member
from otelkit.engine.group_key import GroupKey, group_key
from otelkit.engine.merging import Merger

RESOURCE = {"service.name": "shop", "service.instance.id": "mine", "process.pid": 7}
WHERE = "http://127.0.0.1:4318"

# A member that does what it is told, a line each, and answers with JSON.
PROCESS = """
import json, os, sys
from pathlib import Path
from otelkit.engine.group import Member
from otelkit.engine.group_key import GroupKey
from tests.unit.test_shared_series import SCOPE, number

anchor, groups, name = sys.argv[1:]
member = Member(Path(groups), GroupKey(int(anchor), "test"), name)

def write(value):
    member.series.write([(SCOPE, number(value), False)])

def fold_and_die_before_the_files_are_gone():
    Path.unlink = lambda *_, **__: os._exit(1)
    member.sources()
    member.fold()

def say(): return [member.group_id, member.slot, member.alone, member.slots]
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
"""


class Process:
    """Another process of the group."""

    def __init__(self, groups: Path, key: GroupKey, name: str) -> None:
        command = [sys.executable, "-c", PROCESS, str(key.anchor), str(groups), name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.do("say()")[0]  # it has joined

    def do(self, what: str) -> Any:
        """Evaluates this there; None where the process dies of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def kill(self) -> None:
        """With SIGKILL."""
        self._process.kill()
        self._process.communicate()


Start = Callable[[str], Process]


@pytest.fixture
def key() -> GroupKey:
    """The group of this process's children."""
    return GroupKey(os.getpid(), "test")


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """The folder of all groups."""
    return tmp_path / "state" / "groups"


@pytest.fixture
def start(groups: Path, key: GroupKey) -> Iterator[Start]:
    """Starts members, which end with the test."""
    started: list[Process] = []

    def begin(name: str) -> Process:
        started.append(Process(groups, key, name))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


@pytest.fixture
def member(groups: Path, key: GroupKey) -> Iterator[Member]:
    """This process in the group."""
    found = Member(groups, key, "first")
    yield found
    found.abandon()


def total(found: Member) -> float:
    """What the group's counter says."""
    points = [
        point.value  # type: ignore[union-attr]
        for scope in Merger().merge(found.sources(), 1)
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    return sum(points)


def test_siblings_that_say_the_same_of_themselves_belong_together() -> None:
    """Whatever their pid and their own instance id are; not where anything else differs."""
    mine = group_key(RESOURCE, None, WHERE, 0)
    same = group_key({**RESOURCE, "service.instance.id": "other", "process.pid": 8}, None, WHERE, 0)
    assert (mine.folder, mine.anchor) == (same.folder, os.getppid())
    others = [
        group_key({**RESOURCE, "service.name": "api"}, None, WHERE, 0),
        group_key(RESOURCE, "explicit", WHERE, 0),
        group_key(RESOURCE, None, "http://127.0.0.1:4319", 0),
        group_key(RESOURCE, None, WHERE, 1),
    ]
    assert len({each.folder for each in (mine, *others)}) == 5


def test_children_of_one_process_have_one_key_and_those_of_another_have_another() -> None:
    """The parent and when it started decide."""
    source = (
        f"from otelkit.engine.group_key import group_key; print(group_key({RESOURCE!r}, None, {WHERE!r}, 0).folder)"
    )
    run = [sys.executable, "-c", source]
    under = [sys.executable, "-c", f"import subprocess; subprocess.run({run!r})"]
    one, two, three = (
        subprocess.run(command, capture_output=True, text=True, timeout=60).stdout for command in (run, run, under)
    )
    assert one
    assert one == two != three


@pytest.mark.slow
def test_slots_are_the_lowest_that_no_living_process_has(member: Member, start: Start) -> None:
    """All have the first one's id; a killed one's slot is free again."""
    assert (member.group_id, member.slot, member.alone, member.slots) == ("first", 0, True, False)
    second, third = start("second"), start("third")
    assert second.do("say()") == ["first", 1, False, True]
    assert third.do("say()") == ["first", 2, False, True]
    assert not member.alone
    second.kill()
    assert start("fourth").do("say()") == ["first", 1, False, True]


def test_processes_one_after_the_other_need_no_slots(start: Start, member: Member, groups: Path, key: GroupKey) -> None:
    """They are no single process either: what came before counts."""
    member.leave()
    member.abandon()
    assert start("second").do("say()") == ["first", 0, False, False]


def test_one_leads_until_it_is_gone(member: Member, start: Start) -> None:
    """However it goes."""
    second, third = start("second"), start("third")
    assert second.do("member.leads()") is True
    assert third.do("member.leads()") is False
    assert not member.leads()
    second.kill()
    assert member.leads()
    assert third.do("member.leads()") is False
    member.leave()
    member.abandon()
    assert third.do("member.leads()") is True


@pytest.mark.slow
def test_ended_processes_are_counted_once_and_their_files_go(member: Member, start: Start, groups: Path) -> None:
    """Those that left, and those that were killed."""
    second, third, fourth = start("second"), start("third"), start("fourth")
    for number, process in enumerate((second, third, fourth)):
        process.do(f"write({10**number})")
    assert total(member) == 111
    second.kill()
    assert third.do("member.leave()") is False
    third.kill()
    assert total(member) == 111
    for _ in range(2):
        member.fold()
        assert total(member) == 111
    assert len(list(groups.glob("*/*-*.series"))) == 2
    fourth.do("write(500)")
    fourth.kill()
    member.fold()
    assert total(member) == 511


def test_who_dies_after_the_look_is_put_together_after_the_next_one(member: Member, start: Start, groups: Path) -> None:
    """Until it was exported as ended its file stays: a state that nobody else has is to be told as zero once."""
    second = start("second")
    second.do("write(5)")
    member.sources()
    second.kill()
    member.fold()
    assert len(list(groups.glob("*/*-*.series"))) == 2
    assert total(member) == 5
    member.fold()
    assert len(list(groups.glob("*/*-*.series"))) == 1
    assert total(member) == 5


def test_who_dies_while_sums_are_put_together_loses_and_doubles_nothing(member: Member, start: Start) -> None:
    """Between the new sums and the removal of the files that are in them."""
    second, third = start("second"), start("third")
    second.do("write(5)")
    second.kill()
    assert third.do("fold_and_die_before_the_files_are_gone()") is None
    assert total(member) == 5
    member.fold()
    assert total(member) == 5
    member.fold()
    assert total(member) == 5


def test_a_damaged_file_takes_no_other_along(member: Member, start: Start, groups: Path) -> None:
    """It is left out, and said so; the process that wrote it is gone."""
    second, third = start("second"), start("third")
    second.do("write(5)")
    third.do("write(6)")
    second.kill()
    (damaged,) = groups.glob("*/1-*.series")
    content = bytearray(damaged.read_bytes())
    content[64:68] = b"\xff\xff\xff\xff"
    damaged.write_bytes(content)
    assert total(member) == 6
    member.fold()
    assert total(member) == 6


def test_the_last_one_knows_that_it_is_the_last(member: Member, start: Start) -> None:
    """It is the one that exports for all; its own gauges are still those of a living process."""
    second = start("second")
    assert second.do("say()")
    assert member.leave() is False
    assert second.do("member.leave()") is True
    assert second.do("[source.slot for source in member.sources() if source.slot is not None]") == [1]


def test_a_request_to_the_leader_has_a_number(member: Member, start: Start) -> None:
    """All see it, and the answer."""
    second = start("second")
    assert (second.do("member.ask()"), member.ask()) == (1, 2)
    member.header.answered = 2
    assert second.do("member.header.answered") == 2


@pytest.mark.slow
def test_a_group_that_was_left_long_ago_begins_anew(member: Member, start: Start, groups: Path, key: GroupKey) -> None:
    """Within five minutes the next process goes on with its sums: gunicorn's next worker, the next child of Celery."""
    start("second").do("write(5)")
    member.leave()
    member.abandon()
    (folder,) = groups.iterdir()
    again = start("third")
    assert again.do("say()")[0] == "first"
    again.kill()
    old = (folder / "group").stat().st_mtime - 301
    os.utime(folder / "group", (old, old))
    living = start("fourth")
    assert living.do("say()")[0] == "first"  # the second one lives


@pytest.mark.slow
def test_a_group_that_nobody_lives_in_is_forgotten(member: Member, start: Start, groups: Path) -> None:
    """After five minutes, sums and id included."""
    second = start("second")
    second.do("write(5)")
    member.leave()
    member.abandon()
    second.kill()
    (folder,) = groups.iterdir()
    old = (folder / "group").stat().st_mtime - 301
    os.utime(folder / "group", (old, old))
    third = start("third")
    assert third.do("say()") == ["third", 0, True, False]
    assert third.do("len([entry for source in member.sources() for entry in source.entries])") == 0


def test_folders_that_nobody_can_join_any_more_are_removed(start: Start, groups: Path) -> None:
    """Their parent is gone, and so are all of their processes."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    namespace = os.stat("/proc/self/ns/pid").st_ino
    dead = groups / f"{namespace}-{gone.pid}-77-abcd"
    held = groups / f"{namespace}-{gone.pid}-78-abcd"
    alive = groups / group_key(RESOURCE, None, WHERE, 0).folder
    unknown = groups / "something else"
    for folder in (dead, held, alive, unknown):
        folder.mkdir(parents=True, mode=0o700)
        (folder / "0-1-1.series").touch()
    with (held / "0-1-1.series").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert start("first").do("say()")
    assert not dead.exists()
    assert held.exists()
    assert alive.exists()
    assert unknown.exists()


def test_where_nobody_can_follow_the_group_is_removed(groups: Path) -> None:
    """The process that started all of them is this one, or gone."""
    for anchor, stays in ((os.getpid(), False), (os.getppid(), True)):
        key = GroupKey(anchor, "test")
        found = Member(groups, key, "only")
        assert found.leave() is True
        found.remove()
        found.abandon()
        assert (groups / key.folder).exists() is stays


def test_files_of_another_version_are_refused(groups: Path, key: GroupKey, member: Member) -> None:
    """And stay as they are."""
    path = groups / key.folder / "group"
    path.write_bytes(b"OTKGRP99".ljust(4096, b"\0"))
    with pytest.raises(ValueError, match="another version of otelkit"):
        Member(groups, key, "second")
    assert path.read_bytes().startswith(b"OTKGRP99")
    assert len(list(groups.glob("*/*.series"))) == 1


def test_a_lock_that_is_never_let_go_is_waited_for_a_moment_only(
    groups: Path, key: GroupKey, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Telemetry must not hang on a process that was stopped in the wrong moment."""
    monkeypatch.setattr(locks, "_PATIENCE_S", 0.1)
    with (groups / key.folder / "group").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            Member(groups, key, "second")
    other = Member(groups, key, "second")
    assert other.slot == 1
    other.abandon()


def test_a_folder_that_is_not_this_users_is_refused(tmp_path: Path, key: GroupKey) -> None:
    """A symbolic link may lead anywhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "groups").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        Member(tmp_path / "groups", key, "first")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_files_are_for_this_user_alone(member: Member, groups: Path) -> None:
    """Labels may name customers."""
    for path in groups.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
