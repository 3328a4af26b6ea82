"""Peers measured in rounds: all run at once and take turns, so that what else the machine does hits them alike.

In every round each peer's process is new. A figure is the CPU of that process, its threads and helper processes, from
the end of the warm-up until everything that it recorded has been sent.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cpu import used_s
from benchmarks.peers import peer
from benchmarks.processes import Child, Received, Sink, sink

_KINDS = ("spans", "logs")
# How many requests make spans, where a share of them does, is chance; with so many expected, a third of them is not.
_ENOUGH = 20
_CHANCE = 3


@dataclass(frozen=True)
class Workload:
    """What is done over and over; `key` is its name in what peers say that they send, `turn` how often a peer does it
    before the next one has its turn.
    """

    key: str
    title: str
    unit: str
    turn: int


@dataclass(frozen=True)
class Load:
    """A peer's process under load: `run(workload, first, count)` does the work with these numbers and waits for it."""

    child: Child
    run: Callable[[Workload, int, int], object]


Start = Callable[[str, Sink], AbstractContextManager[Load]]
"""Starts a peer's process, by the peer's name. Raises RuntimeError when it does not start."""


@dataclass(frozen=True)
class Measured:
    """One peer's work in one round; `received` is what its sink got, by kind and name."""

    round: int
    peer: str
    workload: str
    count: int
    cpu_us: float
    received: Received

    def arrived(self, kind: str) -> int:
        """How many records of a kind the sink got."""
        return sum(self.received[kind].values())


@dataclass
class Comparison:
    """The figures of a workload, and why a peer has none."""

    workload: Workload
    measured: list[Measured] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def peers(self) -> list[str]:
        """The peers with figures, in the order of their measurement."""
        return [name for name in dict.fromkeys(each.peer for each in self.measured) if name not in self.failures]

    def of(self, name: str) -> list[Measured]:
        """A peer's figures, a round each."""
        return [each for each in self.measured if each.peer == name]

    def added_us(self, name: str) -> list[float]:
        """What a peer adds to `none`'s CPU of the same round, a round each; empty without `none`."""
        bare = {each.round: each.cpu_us for each in self.of("none")}
        return [each.cpu_us - bare[each.round] for each in self.of(name) if each.round in bare]


@contextmanager
def sinks(peers: Sequence[str], folder: Path) -> Iterator[dict[str, Sink]]:
    """A receiver for each peer."""
    with ExitStack() as running:
        yield {name: running.enter_context(sink(folder)) for name in peers}


def compare(
    workloads: Sequence[Workload],
    receivers: Mapping[str, Sink],
    start: Start,
    *,
    rounds: int,
    count: int,
    warm_up: int,
) -> list[Comparison]:
    """Runs every peer in every round, one workload after the other. A peer that fails is out, with its reason."""
    results = [Comparison(workload) for workload in workloads]
    for number in range(rounds):
        titles = ", ".join(each.title for each in workloads)
        print(f"{titles}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        with ExitStack() as stack:
            running = []
            for name, receiver in receivers.items():
                wanted = [result for result in results if name not in result.failures and _has(name, result.workload)]
                if not wanted:
                    continue
                try:
                    running.append(_Running(name, stack.enter_context(start(name, receiver)), receiver))
                except (RuntimeError, OSError) as error:
                    _fail(wanted, name, error)
            for result in results:
                able = [each for each in running if each.name not in result.failures]
                _round(result, number, [each for each in able if _has(each.name, result.workload)], count, warm_up)
    for result in results:
        for name in result.peers():
            runs = result.of(name)
            done = {result.workload.key: sum(each.count for each in runs)}
            lost = missing(name, done, summed(each.received for each in runs))
            if lost:
                _fail([result], name, RuntimeError(lost))
    return results


def _has(name: str, workload: Workload) -> bool:
    return workload.key in peer(name).sends


@dataclass
class _Running:
    name: str
    load: Load
    receiver: Sink

    def settle(self, *, collect: bool = False) -> tuple[float, Received]:
        """Has everything sent, and at the end of a warm-up the garbage collected; the CPU seconds so far, and what
        arrived since the last time.

        A collection of all that was imported takes a tenth of a second, once: without it, it would fall into the
        figures of some peers and not into those of others.
        """
        self.load.child.ask(collect=collect)
        return used_s(self.load.child.pid), self.receiver.received()


def _round(result: Comparison, number: int, running: Sequence[_Running], count: int, warm_up: int) -> None:
    started_s: dict[str, float] = {}
    for each in running:
        with _failing(result, each.name):
            each.load.run(result.workload, 0, warm_up)
            started_s[each.name] = each.settle(collect=True)[0]
    done = 0
    while done < count:
        turn = min(result.workload.turn, count - done)
        for each in _turned(running, done // result.workload.turn):
            if each.name not in result.failures:
                with _failing(result, each.name):
                    each.load.run(result.workload, done, turn)
        done += turn
    for each in running:
        if each.name not in result.failures:
            with _failing(result, each.name):
                ended_s, received = each.settle()
                cpu_us = (ended_s - started_s[each.name]) / count * 1e6
                result.measured.append(Measured(number, each.name, result.workload.key, count, cpu_us, received))


def _turned(running: Sequence[_Running], by: int) -> list[_Running]:
    """The peers in another order at each turn: nobody is always after the same one."""
    by %= max(1, len(running))
    return [*running[by:], *running[:by]]


@contextmanager
def _failing(result: Comparison, name: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        _fail([result], name, error)


def _fail(results: Sequence[Comparison], name: str, error: Exception) -> None:
    for result in results:
        result.failures[name] = str(error)
    print(f"{peer(name).title}: {error}", file=sys.stderr, flush=True)


def missing(name: str, done: Mapping[str, int], received: Received) -> str:
    """What did not arrive of that which a peer says it sends for so much of each workload; empty if nothing."""
    chosen = peer(name)
    found = []
    for kind in _KINDS:
        expected = sum(getattr(chosen.sends[workload], kind) * count for workload, count in done.items())
        arrived = sum(received[kind].values())
        if kind == "spans" and chosen.traced < 1.0:
            share = expected * chosen.traced
            wrong = share >= _ENOUGH and not share / _CHANCE <= arrived <= share * _CHANCE
            expectation = f"about {share:.0f}"
        else:
            wrong, expectation = arrived < expected, f"{expected}"
        if wrong:
            found.append(f"{arrived} of {expectation} {kind} arrived")
    return ", ".join(found)


def summed(parts: Iterable[Received]) -> Received:
    """Several answers of a sink as one."""
    found: dict[str, Counter[str]] = {}
    for part in parts:
        for kind, names in part.items():
            found.setdefault(kind, Counter()).update(names)
    return {kind: dict(names) for kind, names in found.items()}
