"""Whether requests take longer while the collector hangs: the same server twice, one collector up and one hanging.

Both servers are asked at a fixed rate, one right after the other and in alternating order, so that what else the
machine does hits them alike. In every round the servers and collectors are new.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from benchmarks.load import Client
from benchmarks.processes import Sink, child, clean_environment
from benchmarks.report import mean_ratio, table
from benchmarks.requests import ORDERS, Shop, shop

AIM = 1.05

_RATE = 125.0  # requests a second of each server
_WARM_UP = 500
_PEER = "otelkit"


@dataclass(frozen=True)
class Pair:
    """One round's 99th percentiles, in milliseconds."""

    healthy_ms: float
    hanging_ms: float

    @property
    def ratio(self) -> float:
        """How many times longer it takes while the collector hangs."""
        return self.hanging_ms / self.healthy_ms


def measure(*, rounds: int, requests: int) -> list[Pair]:
    """A pair for each round, of so many requests to each server."""
    found = []
    with shop((_PEER,)) as place:
        for number in range(rounds):
            with _server(place, "up") as healthy, _server(place, "hanging") as hanging:
                found.append(_pair(healthy, hanging, requests))
            print(f"round {number + 1} of {rounds}: {found[-1].ratio:.3f}", file=sys.stderr, flush=True)
    return found


@contextmanager
def _server(place: Shop, mode: str) -> Iterator[Client]:
    """A warm server whose collector is in a mode. Raises RuntimeError where that was not what it should be."""
    environ, log = clean_environment(), place.folder / "collector.log"
    with child(sys.executable, "benchmarks.collector", environ=environ, log=log) as collector:
        receiver = Sink(int(collector.first["port"]))
        with (
            place.run("benchmarks.serve", _PEER, receiver) as server,
            closing(Client(int(server.first["port"]))) as client,
        ):
            for number in range(_WARM_UP):
                client.get(_path(number))
            collector.ask(mode=mode)
            before = collector.ask(unique=True)
            yield client
            acknowledges = collector.ask(unique=True) != before
            if acknowledges != (mode == "up"):
                raise RuntimeError(f"a collector acknowledged {'records' if acknowledges else 'nothing'}, {mode}")


def _pair(healthy: Client, hanging: Client, requests: int) -> Pair:
    taken: dict[Client, list[float]] = {healthy: [], hanging: []}
    started = time.perf_counter()
    for number in range(requests):
        while (left_s := started + number / _RATE - time.perf_counter()) > 0:
            time.sleep(left_s)
        for client in (healthy, hanging) if number % 2 else (hanging, healthy):
            asked = time.perf_counter()
            client.get(_path(number))
            taken[client].append(time.perf_counter() - asked)
    return Pair(_p99_ms(taken[healthy]), _p99_ms(taken[hanging]))


def _path(number: int) -> str:
    return f"/orders/{number % ORDERS + 1}"


def _p99_ms(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98] * 1000


def shown(pairs: Sequence[Pair]) -> str:
    """Each round, and what the mean ratio is between."""
    rows = [
        (str(number), f"{pair.healthy_ms:.2f}", f"{pair.hanging_ms:.2f}", f"{pair.ratio:.3f}")
        for number, pair in enumerate(pairs, 1)
    ]
    lines = [table(("round", "p99 ms, collector up", "p99 ms, collector hangs", "ratio"), rows)]
    if len(pairs) > 1:
        mean = mean_ratio([pair.ratio for pair in pairs])
        held = "holds" if mean.upper <= AIM else "does not hold"
        lines.append(f"Mean ratio {mean.shown()}, with 95 % confidence; the aim, at most {AIM}, {held}.")
    return "\n\n".join(lines)
