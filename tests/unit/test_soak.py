"""What a soak and the comparison of latencies compute: when what happens, what is lost, and what a figure is worth."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from benchmarks import latency
from benchmarks.__main__ import DEFAULT, PARTS
from benchmarks.collector import FAILURES, identified
from benchmarks.processes import Child, child, clean_environment
from benchmarks.report import mean_ratio, slope
from benchmarks.soak.balance import Balance, Ended, balance, left_by_the_killed, reported, uncounted
from benchmarks.soak.result import Result, Sample, shown
from benchmarks.soak.schedule import STOPS, schedule, warm_up_s
from otelkit.config.settings import SIGNALS, Signal
from otelkit.delivery.ledger import Account, DropReason, LedgerPage


def test_neither_is_a_part_of_a_run_that_names_none() -> None:
    """They take longer than all others together; `counting` is of a single feature."""
    assert set(PARTS) - set(DEFAULT) == {"soak", "latency", "counting"}


# -- the schedule


@pytest.mark.parametrize("seconds", [12.0, 60.0, 1800.0])
@pytest.mark.parametrize("seed", range(20))
def test_a_soak_has_all_that_can_happen(seed: int, seconds: float) -> None:
    """In order of time, within its time, the collector up at the end; a warm-up with one outage comes first."""
    events = schedule(seed, seconds)
    assert events == sorted(events)
    assert all(0 < event.at_s <= seconds for event in events)
    modes = [event.what for event in events if event.what not in STOPS]
    assert modes[-1] == "up"
    assert modes[1::2] == ["up"] * (len(modes) // 2), "each outage ends"
    warm = [event.what for event in events if event.at_s < warm_up_s(seconds)]
    assert warm == ["refused", "up"]
    expected = {"up", *FAILURES, *STOPS} if seconds >= 60 else {"up", "refused", "SIGTERM", "SIGKILL"}
    assert expected <= {event.what for event in events}


def test_the_same_seed_is_the_same_soak() -> None:
    """And another seed another one."""
    assert schedule(1, 1800) == schedule(1, 1800)
    assert schedule(1, 1800) != schedule(2, 1800)


def test_half_an_hour_has_dozens_of_outages_and_restarts() -> None:
    """None of them longer than half a minute."""
    events = [event for event in schedule(1, 1800) if event.what not in STOPS]
    outages = [up.at_s - down.at_s for down, up in zip(events[::2], events[1::2], strict=True)]
    assert len(outages) > 20
    assert all(0 < outage <= 30 for outage in outages)
    assert sum(event.what in STOPS for event in schedule(1, 1800)) > 40


# -- the balance


def ended(traces: Account, *, made: int, killed: bool = False, pid: int = 7) -> Ended:
    """A process that made spans alone."""
    nothing = dict.fromkeys(SIGNALS, Account())
    page = LedgerPage(pid, 1, "shop", {**nothing, "traces": traces})
    return Ended(pid, killed, 0.1, {**dict.fromkeys(SIGNALS, 0), "traces": made}, page)


def spans(processes: list[Ended], received: int) -> Balance:
    """The balance of their spans."""
    return balance(processes, {"traces": received})["traces"]


def test_what_is_taken_over_counts_once() -> None:
    """A process spools 40 of 100 and ends; the next one takes them over and makes 10 of its own."""
    first = ended(Account(accepted=100, delivered=60, spooled=40), made=100)
    second = ended(Account(accepted=50, delivered=50, adopted=40), made=10)
    found = spans([first, second], received=110)
    assert (found.made, found.accepted, found.lost, found.unexplained) == (110, 110, 0, 0)
    assert found.adds_up


def test_a_record_that_nobody_counted_as_lost_is_unexplained() -> None:
    """One of 100 that the ledger calls delivered, or that was in memory at an end in order."""
    assert spans([ended(Account(accepted=100, delivered=100), made=100)], received=99).unexplained == 1
    assert spans([ended(Account(accepted=100, delivered=99), made=100)], received=99).unexplained == 1
    assert not spans([ended(Account(accepted=100, delivered=99), made=100)], received=99).adds_up


def test_what_a_ledger_says_is_lost_is_explained() -> None:
    """Dropped by a reason, and in memory at SIGKILL; a superseded point is not lost."""
    dropped = {DropReason.QUEUE_FULL: 5, DropReason.SUPERSEDED: 20}
    found = spans([ended(Account(accepted=100, delivered=70, dropped=dropped), made=100, killed=True)], received=70)
    assert (found.killed, found.superseded, found.lost, found.unexplained) == (5, 20, 10, 0)
    assert found.adds_up


def test_what_arrived_in_the_moment_of_the_kill_may_be_more_than_the_ledger_promises() -> None:
    """But never more than was accepted."""
    killed = [ended(Account(accepted=100, delivered=90), made=100, killed=True)]
    assert spans(killed, received=97).all_the_same == 7
    assert spans(killed, received=100).adds_up
    assert not spans(killed, received=101).adds_up


def test_records_that_no_ledger_accepted_are_found() -> None:
    """The program counts first: a kill in between explains one, and no more."""
    found = balance([ended(Account(accepted=97, delivered=97), made=99, killed=True)], {"traces": 97})
    assert (uncounted(found, kills=1), uncounted(found, kills=2)) == (1, 0)


def test_without_a_ledger_what_was_made_is_what_should_arrive() -> None:
    """Whatever did not is unexplained."""
    found = spans([replace(ended(Account(), made=100), page=None)], received=60)
    assert (found.accepted, found.lost, found.unexplained) == (100, 40, 40)


def test_what_the_next_start_says_is_read_from_its_log() -> None:
    """By pid, and only of processes that were killed with something in memory."""
    killed = ended(Account(accepted=9, delivered=2), made=9, killed=True, pid=41)
    empty = ended(Account(accepted=9, delivered=9), made=9, killed=True, pid=42)
    log = "x\nprocess 41 (shop) ended with 7 records undelivered\n"
    assert left_by_the_killed([killed, empty]) == reported(log) == {41: 7}


# -- the verdict

FINE = {signal: Balance(100, 100, {}, 0, 100) for signal in SIGNALS}


def result(**changes: object) -> Result:
    """A soak of half an hour in which all holds, or with these changes."""
    samples = [Sample(float(second), 60_000_000, 1000) for second in range(1800)]
    found = Result(
        peer="otelkit", seconds=1800.0, services={"shop": FINE}, again=0, uncounted=0, stopped=1, killed=1,
        longest_ending_s=0.1, left_by_the_killed={}, reported={}, left_on_disk=0, fds_warm=20, fds_end=20,
        spool_cap=1000, samples=samples,
    )  # fmt: skip
    return replace(found, **changes)  # type: ignore[arg-type]


def growing(mb_in_ten_minutes: float) -> list[Sample]:
    """Samples of a process that grows at once to 60 MB, and then as said."""
    return [
        Sample(float(second), int(60e6 + mb_in_ten_minutes * 1e6 * second / 600) if second > 500 else 0, 0)
        for second in range(1800)
    ]


def lossy(signal: Signal) -> Mapping[str, Mapping[Signal, Balance]]:
    """A service that lost one record."""
    return {"shop": {**FINE, signal: Balance(100, 100, {}, 0, 99)}}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, None),
        ({"services": lossy("logs")}, "shop: 1 log records lost and not explained, 99 of 100 arrived"),
        ({"uncounted": 3}, "3 records were made"),
        ({"reported": {41: 7}}, "the next starts said {41: 7}"),
        ({"left_on_disk": 1}, "1 segments are left"),
        ({"samples": growing(0.9)}, None),
        ({"samples": growing(1.1)}, "grows by 1.10 MB"),
        ({"samples": growing(1.1), "seconds": 30.0}, None),
        ({"fds_end": 19}, None),
        ({"fds_end": 21}, "21 file descriptors are open, 20 were"),
        ({"fds_end": 21, "seconds": 30.0}, None),
        ({"spool_cap": 999}, "the spool had 1000 bytes, 999 are allowed"),
    ],
)
def test_a_soak_fails_by_each_of_its_criteria(changes: dict[str, object], complaint: str | None) -> None:
    """And says which; growth of memory and of open files is judged in long soaks alone."""
    found = result(**changes)
    table = shown({"otelkit": found})
    if complaint is None:
        assert found.failures() == []
        assert "All holds." in table
    else:
        (failure,) = found.failures()
        assert complaint in failure
        assert f"FAILED: {failure}" in table


def test_the_peers_stand_beside_each_other() -> None:
    """The loss is a share of what was made, and what was superseded is none."""
    services = {
        "long-lived": {signal: Balance(50, 50, {"superseded": 10}, 0, 30) for signal in SIGNALS},
        "restarted": {signal: Balance(50, 50, {}, 0, 50) for signal in SIGNALS},
    }
    table = shown({"otelkit": result(), "contrib": result(peer="contrib", services=services)})
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:4]] for line in table.splitlines()
            if line.startswith("|")}  # fmt: skip
    assert rows["spans made"] == ["100", "100"]
    assert rows["lost"] == ["0 (0.00 %)", "10 (10.00 %)"]
    assert rows["descriptors, warm and end"] == ["20, 20", "20, 20"]


# -- figures


def test_the_slope_is_that_of_least_squares() -> None:
    """Of a line exactly; noise on both sides of it changes nothing."""
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(x, 3 * x + (1 if x in (1, 4) else -1 if x in (2, 3) else 0)) for x in range(6)]) == pytest.approx(3)
    with pytest.raises(statistics.StatisticsError):
        slope([(0, 1)])


def test_the_interval_is_students_over_logarithms() -> None:
    """Ratios of a half and of two are one in the mean; the bounds are each other's inverse."""
    found = mean_ratio([0.5, 2.0])
    assert found.mean == pytest.approx(1)
    assert found.upper == pytest.approx(1 / found.lower) == pytest.approx(math.exp(12.706 * math.log(2)), rel=1e-3)
    # Ten of them: nine degrees of freedom.
    ratios = [1.0, 1.1] * 5
    half = 2.262 * statistics.stdev(map(math.log, ratios)) / math.sqrt(10)
    assert mean_ratio(ratios).upper == pytest.approx(math.sqrt(1.1) * math.exp(half))
    assert mean_ratio([1.0, 1.1] * 50).upper == pytest.approx(1.0589, abs=1e-3), "beyond the table"
    with pytest.raises(statistics.StatisticsError):
        mean_ratio([1.0])


def test_the_aim_for_latency_is_held_by_the_upper_bound() -> None:
    """Not by the mean."""
    close = [latency.Pair(10.0, 10.0 * ratio) for ratio in (1.0, 1.01, 1.02)]
    wide = [latency.Pair(10.0, 10.0 * ratio) for ratio in (0.8, 1.0, 1.2)]
    assert "Mean ratio 1.010" in latency.shown(close)
    assert "at most 1.05, holds" in latency.shown(close)
    assert "at most 1.05, does not hold" in latency.shown(wide)
    assert "Mean" not in latency.shown(close[:1])


# -- the collector


def logs(*bodies: str, service: str = "shop", instance: str = "1") -> bytes:
    """A request with log records."""
    request = ExportLogsServiceRequest()
    part = request.resource_logs.add()
    for key, value in (("service.instance.id", instance), ("service.name", service)):
        part.resource.attributes.add(key=key).value.string_value = value
    scope = part.scope_logs.add()
    for body in bodies:
        scope.log_records.add(time_unix_nano=1).body.string_value = body
    content: bytes = request.SerializeToString()
    return content


def test_a_record_keeps_its_number_and_no_other_has_it() -> None:
    """In another request too; another process's record of the same words is another one."""
    first, second = identified("logs", logs("a", "b"))
    assert {first[0], second[0]} == {"shop"}
    assert first != second
    assert list(identified("logs", logs("b"))) == [second]
    assert second not in identified("logs", logs("b", instance="2"))


def test_points_are_told_apart_by_metric_labels_and_time() -> None:
    """Of sums and of histograms."""
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for name in ("a", "b"):
        total = metrics.add(name=name).sum
        for cell in (1, 2):
            for at in (1, 2):
                point = total.data_points.add(time_unix_nano=at, as_int=5)
                point.attributes.add(key="cell").value.int_value = cell
    metrics.add(name="c").histogram.data_points.add(count=1, sum=0.5)
    found = list(identified("metrics", request.SerializeToString()))
    assert len(found) == len(set(found)) == 9


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Child]:
    with child(
        sys.executable, "benchmarks.collector", environ=clean_environment(), log=tmp_path / "collector.log"
    ) as started:
        yield started


def post(to: Child, body: bytes, timeout_s: float = 10.0) -> None:
    """Sends log records."""
    with urlopen(Request(f"http://127.0.0.1:{to.first['port']}/v1/logs", body), timeout=timeout_s) as answer:
        assert answer.status == 200


def test_the_collector_counts_what_it_acknowledged_once(collector: Child) -> None:
    """By service; what comes again is counted apart."""
    post(collector, logs("a", "b"))
    post(collector, logs("b", "c"))
    post(collector, logs("a", service="other"))
    assert collector.ask(unique=True) == {
        "unique": {"shop": {"logs": 3}, "other": {"logs": 1}},
        "all": {"shop": {"logs": 4}, "other": {"logs": 1}},
    }


def test_the_collector_fails_in_each_way_and_comes_back(collector: Child) -> None:
    """What it did not acknowledge it does not count, and it is up at once."""
    collector.ask(mode="503")
    with pytest.raises(HTTPError, match="503"):
        post(collector, logs("503"))
    collector.ask(mode="hanging")
    with pytest.raises(TimeoutError):
        post(collector, logs("hanging"), timeout_s=0.3)
    collector.ask(mode="refused")
    started = time.monotonic()
    with pytest.raises(URLError, match="refused"):
        post(collector, logs("refused"))
    assert time.monotonic() - started < 5
    assert collector.ask(unique=True)["all"] == {}
    collector.ask(mode="up")
    post(collector, logs("up"))
    assert collector.ask(unique=True)["all"] == {"shop": {"logs": 1}}
