"""The benchmark's parts, run for real with few requests: otelkit in this environment, beside no telemetry."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import counting, latency, memory, micro, requests, rounds, tasks, throughput
from benchmarks.environments import CHECKOUT
from benchmarks.peers import peer
from benchmarks.processes import child, clean_environment, sink
from benchmarks.rounds import Comparison
from benchmarks.soak import run as soak_run
from otelkit.stack.native import find_binaries

pytestmark = pytest.mark.slow

HERE = Path(sys.executable)


@pytest.fixture(autouse=True)
def _in_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers run in the environment of the tests: making their own takes minutes and a package index."""
    monkeypatch.setattr(requests, "peer_environment", lambda name: HERE)


def check(result: Comparison, *, spans: int) -> None:
    """Every round of otelkit has a figure, and all that it says it sends arrived."""
    assert result.failures == {}
    for measured in result.of("otelkit"):
        assert measured.cpu_us > 0
        assert measured.arrived("spans") == spans * measured.count, measured.received
        assert measured.arrived("points") > 0
    assert [measured.arrived("spans") for measured in result.of("none")] == [0, 0]


def test_requests_are_measured_and_their_records_counted() -> None:
    """Both routes, two rounds; a peer that is not installed is an error and disturbs nobody."""
    ping, order = requests.measure(("none", "logfire", "otelkit"), rounds=2, requests=30)
    for result in (ping, order):
        assert list(result.failures) == ["logfire"]
        assert "No module named 'logfire'" in result.failures.pop("logfire").splitlines()[0]
    check(ping, spans=1)
    check(order, spans=3)
    assert all(measured.received["logs"] == {"shop": 30} for measured in order.of("otelkit"))


def test_tasks_are_measured_and_their_records_counted() -> None:
    """What is published is done by a real worker, and each task's records arrive."""
    (result,) = tasks.measure(("none", "otelkit"), rounds=2, tasks=30)
    check(result, spans=2)
    assert all(measured.received["logs"] == {"shop": 30} for measured in result.of("otelkit"))


def test_a_peer_whose_records_do_not_arrive_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bare application, held to what otelkit sends, is an error."""
    monkeypatch.setattr(rounds, "peer", lambda name: replace(peer(name), sends=peer("otelkit").sends))
    ping, order = requests.measure(("none",), rounds=1, requests=10)
    assert ping.failures == {"none": "0 of 10 spans arrived"}
    assert order.failures == {"none": "0 of 30 spans arrived, 0 of 10 logs arrived"}
    assert ping.peers() == order.peers() == []


def test_memory_is_measured_after_all_requests() -> None:
    """Resident memory of a real server, larger with telemetry than without."""
    found = memory.measure(("none", "otelkit"), requests=1000)
    bare, own = found["none"], found["otelkit"]
    assert isinstance(bare, memory.Memory)
    assert isinstance(own, memory.Memory)
    assert own.after > bare.after > 10_000_000


def operations(tmp_path: Path, url: str) -> dict[str, float]:
    """One run of otelkit's single operations."""
    environ = clean_environment(
        **peer("otelkit").environ(url), OTELKIT_STATE_DIR=str(tmp_path / "state"), OTELKIT_RUNTIME_METRICS="false"
    )
    command = [sys.executable, "-m", "benchmarks.operations", "otelkit"]
    answer = subprocess.run(command, cwd=CHECKOUT, env=environ, check=True, stdout=subprocess.PIPE, timeout=100)
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def test_every_single_operation_is_measured(tmp_path: Path) -> None:
    """All rows of the table have a figure, a sane one, whatever the engine makes its records of."""
    with sink(tmp_path) as receiver:
        found = operations(tmp_path, receiver.url)
        received = receiver.received()
    assert set(found) == set(micro.OPERATIONS)
    # A log record's is the difference of two: on a machine that does other things it may be less than nothing.
    assert all(nanoseconds > 0 for name, nanoseconds in found.items() if name != "log"), found
    assert all(abs(nanoseconds) < 10_000_000 for nanoseconds in found.values()), found
    assert received["spans"]["GET /orders/{number}"] > 1000
    assert {"benchmark.requests", "declared.requests", "declared.duration"} <= set(received["points"])


def test_throughput_is_of_records_that_all_arrived(tmp_path: Path) -> None:
    """A rate that the process keeps is its own; one that overflows the queue is none."""
    with sink(tmp_path) as receiver:
        environ = clean_environment(**peer("otelkit").environ(receiver.url), OTELKIT_STATE_DIR=str(tmp_path / "state"))
        log = tmp_path / "produce.log"
        with child(sys.executable, "benchmarks.produce", "otelkit", environ=environ, log=log) as producer:
            kept = throughput.delivered_rate(producer, receiver, 200.0, 0.5)
        small = {**environ, "OTEL_BSP_MAX_QUEUE_SIZE": "1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}
        with child(sys.executable, "benchmarks.produce", "otelkit", environ=small, log=log) as producer:
            overflowed = throughput.delivered_rate(producer, receiver, 20_000.0, 0.5)
    assert kept is not None
    assert 0 < kept < 250  # the rate is the machine's affair
    assert overflowed is None


def test_a_soak_of_seconds_loses_nothing_that_nobody_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outages and restarts are real: batches waited on disk, a SIGKILL lost what the next start told."""
    monkeypatch.setattr(soak_run, "micro_environment", lambda: HERE)
    # Long enough for a busy machine: a process that is still being started, or that ends, is not killed.
    found = soak_run.measure(("otelkit",), seconds=12.0, seed=49)["otelkit"]
    assert found.failures() == []
    assert found.stopped >= 2, "one by the schedule, and the last"
    assert found.killed >= 1
    assert found.largest_spool > 0
    for balances in found.services.values():
        assert all(each.received > 100 for each in balances.values())
        assert all(each.lost <= each.killed for each in balances.values()), "nothing was dropped"


@pytest.mark.skipif("otelcol" not in find_binaries(), reason="no otelcol in OTELKIT_STACK_BIN, nor on PATH")
def test_a_soak_through_a_real_otelcol_loses_nothing_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed where the collector would be away: what it had acknowledged comes from its disk."""
    monkeypatch.setattr(soak_run, "micro_environment", lambda: HERE)
    found = soak_run.measure(("otelkit",), seconds=6.0, seed=49, otelcol=True)["otelkit"]
    assert found.failures() == []
    assert found.killed >= 1
    for balances in found.services.values():
        assert all(each.received > 100 for each in balances.values())
        assert all(each.lost <= each.killed for each in balances.values()), "nothing was dropped"


def test_latency_is_compared_with_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of real servers; a collector that was not as it should be would have raised."""
    monkeypatch.setattr(latency, "_WARM_UP", 20)
    (pair,) = latency.measure(rounds=1, requests=200)
    assert 0.1 < pair.healthy_ms < 10_000
    assert 0.1 < pair.hanging_ms < 10_000


def test_what_the_counting_of_statements_costs_is_measured_in_turns() -> None:
    """In two rounds of real processes, beside one without telemetry; a difference of so few may be below zero."""
    found = counting.measure(rounds=2, groups=50)
    assert len(found) == 2
    assert all(each.bare > 0 and each.without > 0 and each.counting != 0 for each in found)
    assert "The counting adds " in counting.shown(found)


def test_unknown_peers_and_parts_are_refused() -> None:
    """A typing error measures nothing."""
    for words in (["requests", "--peers", "none,otelkti"], ["request"]):
        command = [sys.executable, "-m", "benchmarks", *words]
        answer = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
        assert answer.returncode == 2
        assert f"{words[-1].split(',')[-1]!r} is none of " in answer.stderr
