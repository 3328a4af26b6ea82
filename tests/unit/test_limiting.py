"""The limit of series over all processes of a group: exact sums, none that falls, whoever lives, ends and leads."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import Gauge, Metric, NumberDataPoint

from otelkit.engine import limiting
from otelkit.engine.group import Member
from otelkit.engine.group_key import GroupKey
from otelkit.engine.limiting import Limiter
from otelkit.engine.merging import Merger, Source
from otelkit.engine.series import OVERFLOW
from otelkit.engine.shared import Entry
from otelkit.semconv import PROCESS_SLOT
from tests.support.examples import examples
from tests.unit.test_shared_series import SCOPE, number, said

LIMIT = 5
USER = st.integers(0, 11)
# Two metrics, whose limits have nothing to do with each other; None is the process's own overflow.
WRITES = st.lists(st.tuples(st.sampled_from(["orders", "visits"]), USER | st.none(), st.integers(1, 9)), max_size=8)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.just(0), st.just([])),
        st.tuples(st.just("write"), st.integers(0, 9), WRITES),
        st.tuples(st.just("end"), st.integers(0, 9), st.just([])),
        st.tuples(st.just("kill"), st.integers(0, 9), st.just([])),
        st.tuples(st.just("export"), st.integers(0, 9), st.just([])),
        st.tuples(st.just("fold"), st.integers(0, 9), st.just([])),
    ),
    max_size=30,
)
Sums = dict[str, dict[int | None, int]]


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few series are many."""
    monkeypatch.setattr(limiting, "LIMIT", LIMIT)


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """The folder of all groups."""
    return tmp_path / "state" / "groups"


def join(groups: Path) -> Member:
    """A member of the one group."""
    return Member(groups, GroupKey(os.getpid(), "test"), "first")


def labels(user: int | None) -> dict[str, Any]:
    """The attributes of a series."""
    return OVERFLOW if user is None else {"user": f"u{user}", "plan": "pro"}


def write(member: Member, sums: Sums) -> None:
    """Writes a process's running sums."""
    found = [
        (SCOPE, number(total, labels(user), name=name), False) for name in sums for user, total in sums[name].items()
    ]
    assert member.series.write(found) == []


def exported(member: Member) -> Sums:
    """What this member would export: the sums by metric and user, None for the overflow's."""
    found: Sums = {}
    for scope in Merger().merge(member.sources(), 99):
        for metric in scope.metrics:
            of_metric = found.setdefault(metric.name, {})
            for point in metric.data.data_points:
                attributes: Any = point.attributes
                user = None if dict(attributes) == OVERFLOW else int(attributes["user"][1:])
                assert user not in of_metric, "a series came twice"
                value: Any = point.value  # type: ignore[union-attr]
                of_metric[user] = value
    return found


@settings(max_examples=examples(150), deadline=None)
@given(steps=STEPS)
def test_sums_are_exact_and_never_fall_over_lives_and_leaders(steps: list[tuple[str, int, Any]]) -> None:
    """Over every export, whoever makes it: as many series as allowed, the total of all processes, each series that was
    itself once is that of all processes, the rest is the overflow's, and nothing falls.
    """
    with TemporaryDirectory() as folder:
        groups = Path(folder) / "groups"
        living = [join(groups)]
        of_each: dict[int, Sums] = {0: {}}
        numbers = {id(living[0]): 0}
        before: Sums = {}
        try:
            for what, which, writes in [*steps, ("export", 0, []), ("fold", 0, []), ("export", 1, [])]:
                member = living[which % len(living)]
                if what == "start":
                    living.append(join(groups))
                    numbers[id(living[-1])] = len(of_each)
                    of_each[len(of_each)] = {}
                elif what == "write":
                    sums = of_each[numbers[id(member)]]
                    for name, user, amount in writes:
                        of_metric = sums.setdefault(name, {})
                        of_metric[user] = of_metric.get(user, 0) + amount
                    write(member, sums)
                elif what in ("end", "kill"):
                    if len(living) > 1:
                        living.remove(member)
                        if what == "end":
                            member.leave()
                        member.abandon()
                elif what == "fold":
                    member.sources()
                    member.fold()
                else:
                    now = exported(member)
                    check(now, before, of_each)
                    before = now
        finally:
            for member in living:
                member.abandon()


def check(now: Sums, before: Sums, of_each: dict[int, Sums]) -> None:
    """One export, against the one before and what the processes have counted."""
    totals: defaultdict[str, defaultdict[int | None, int]] = defaultdict(lambda: defaultdict(int))
    for sums in of_each.values():
        for name, of_metric in sums.items():
            for user, total in of_metric.items():
                totals[name][user] += total
    assert now.keys() == totals.keys()
    for name, series in now.items():
        assert len(series) <= LIMIT
        assert sum(series.values()) == sum(totals[name].values())
        assert {user: total for user, total in series.items() if user is not None} == {
            user: totals[name][user] for user in series if user is not None
        }
        was = before.get(name, {})
        assert was.keys() <= series.keys(), "a series is gone"
        assert all(series[user] >= total for user, total in was.items()), "a series fell"
        if len(totals[name].keys() - {None}) > LIMIT - 1:
            assert len(series) == LIMIT, "there was room"


def test_whoever_exports_next_knows_what_was_exported(groups: Path) -> None:
    """Also where all the series of the first one come after those of others in the files."""
    first, second = join(groups), join(groups)
    write(second, {"orders": dict.fromkeys(range(10, 13), 1)})
    assert exported(second)["orders"].keys() == {10, 11, 12}
    write(first, {"orders": dict.fromkeys(range(9), 1)})
    assert exported(first)["orders"] == {0: 1, 10: 1, 11: 1, 12: 1, None: 8}
    second.abandon()
    first.sources()
    first.fold()
    third = join(groups)
    assert exported(third)["orders"] == {0: 1, 10: 1, 11: 1, 12: 1, None: 8}
    first.abandon()
    third.abandon()


def test_processes_that_come_and_go_with_ever_new_labels_fill_no_disk(groups: Path) -> None:
    """What is left of those that have ended stays within the limit, too."""
    staying = join(groups)
    sizes = []
    for life in range(6):
        member = join(groups)
        write(member, {"orders": {10 * life + user: 1 for user in range(4)}})
        member.leave()
        member.abandon()
        exported(staying)
        staying.fold()
        sizes.append((staying.path.parent / "ended.series").stat().st_size)
    assert exported(staying)["orders"] == {0: 1, 1: 1, 2: 1, 3: 1, None: 20}
    assert len(set(sizes[1:])) == 1
    staying.abandon()


def test_the_limit_is_told_once_with_the_metric_and_the_attribute(
    groups: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By whoever exports first, and by nobody after that."""
    first, second = join(groups), join(groups)
    with caplog.at_level(logging.WARNING, "otelkit.engine"):
        write(first, {"orders": dict.fromkeys(range(LIMIT - 1), 1), "visits": {0: 1}})
        exported(first)
        assert caplog.records == []
        write(second, {"orders": dict.fromkeys(range(20), 1)})
        for member in (first, second, first):
            exported(member)
        first.abandon()
        exported(second)
        second.abandon()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"the metric orders has {LIMIT} series over all processes of the service;")
    assert "the most values is 'user' (4)" in record.getMessage()


def test_a_group_that_begins_anew_has_room_again(groups: Path) -> None:
    """What was exported long ago is nobody's any more."""
    first = join(groups)
    write(first, {"orders": dict.fromkeys(range(9), 1)})
    assert exported(first)["orders"].keys() == {0, 1, 2, 3, None}
    folder = first.path.parent
    first.leave()
    first.abandon()
    os.utime(folder / "group", (0, 0))
    second = join(groups)
    write(second, {"orders": dict.fromkeys(range(20, 24), 1)})
    assert exported(second)["orders"].keys() == {20, 21, 22, 23}
    second.abandon()


def test_who_dies_while_it_writes_the_list_down_harms_nobody(groups: Path) -> None:
    """Half a record is none, and the next one takes its place."""
    first = join(groups)
    write(first, {"orders": dict.fromkeys(range(2), 1)})
    exported(first)
    with (first.path.parent / "admitted").open("ab") as file:
        file.write(b"half")
    second = join(groups)
    write(second, {"orders": dict.fromkeys(range(4), 1)})
    assert exported(second)["orders"] == {0: 2, 1: 2, 2: 1, 3: 1}
    third = join(groups)
    write(third, {"orders": dict.fromkeys(range(9), 1)})
    assert exported(third)["orders"] == {0: 3, 1: 3, 2: 2, 3: 2, None: 5}
    for member in (first, second, third):
        member.abandon()


@pytest.fixture
def limiter(tmp_path: Path) -> Iterator[Limiter]:
    """One with a list of its own."""
    fd = os.open(tmp_path / "admitted", os.O_RDWR | os.O_CREAT, 0o600)
    yield Limiter(fd)
    os.close(fd)


def last_values(users: range, value: float) -> Metric:
    """A gauge with a series for each user."""
    points = [NumberDataPoint(labels(user), None, 99, value, []) for user in users]  # type: ignore[arg-type]
    return Metric("level", "", "1", Gauge(points))


def points_of(sources: list[Source]) -> list[Any]:
    """The points of the one metric there is."""
    ((metric,),) = (scope.metrics for scope in Merger().merge(sources, 99))
    return list(metric.data.data_points)


def test_gauges_stay_within_the_limit_and_are_not_added_up(limiter: Limiter) -> None:
    """Each process has an overflow of its own, which says one of its values; who was there stays, who ends makes
    room.
    """
    one, two = Source(said(last_values(range(3), 1.5)), 0), Source(said(last_values(range(3, 9), 2.5)), 1)
    assert len(points_of(limiter.limited([one]))) == 3
    found = points_of(limiter.limited([two, one]))
    own = {point.attributes["user"] for point in found if "user" in point.attributes}
    assert own == {"u0", "u1", "u2"}
    (overflow,) = [point for point in found if "user" not in point.attributes]
    assert dict(overflow.attributes) == {**OVERFLOW, PROCESS_SLOT: 1}
    assert overflow.value == 2.5
    assert len(points_of(limiter.limited([two]))) == LIMIT


def test_states_stay_within_the_limit_and_add_up(limiter: Limiter) -> None:
    """They end with their process, so their places are free again."""

    def state(users: range) -> list[Any]:
        return said(*(number(1, labels(user), monotonic=False, name="busy") for user in users), state=True)

    found = points_of(limiter.limited([Source(state(range(4)), 0), Source(state(range(3, 9)), 1)]))
    assert len(found) == LIMIT
    assert sum(point.value for point in found) == 10
    assert {dict(point.attributes).get("user"): point.value for point in found}[None] == 5
    again = points_of(limiter.limited([Source(state(range(20, 24)), 1)]))
    assert {point.attributes["user"] for point in again} == {"u20", "u21", "u22", "u23"}


@given(description=st.text(), found=st.dictionaries(st.text(max_size=3), st.text(), max_size=3))
def test_the_overflows_key_is_the_one_that_a_process_writes(description: str, found: dict[str, str]) -> None:
    """Else its own overflow and the group's were two series."""

    def written(attributes: dict[str, Any]) -> Entry:
        metric = replace(number(1, attributes), description=description)
        (entry,) = said(metric)
        return entry

    with TemporaryFile() as file:
        entries = [written({**found, "user": user}) for user in range(LIMIT)]
        (source,) = Limiter(file.fileno()).limited([Source(entries, 0)])
    assert [entry.key for entry in source.entries][-1] == written(OVERFLOW).key
