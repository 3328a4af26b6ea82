"""Whether requests take longer while the collector hangs: the same server twice, one collector up and one hanging.

Both servers are asked at a fixed rate and take turns, the first of them alternating, so that what else the machine does
hits them alike; in every round the servers and collectors are new. A request's time counts from when it was due: one
that waits for another that hangs has waited too.
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

_RATE = 125.0  # requests a second of one server, while it has its turn twice that
_TURN = 50
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
    """A warm server whose collector is in a mode."""
    words = ("benchmarks.collector",)
    with child(sys.executable, *words, environ=clean_environment(), log=place.folder / "collector.log") as collector:
        receiver = Sink(int(collector.first["port"]))
        with (
            place.run("benchmarks.serve", _PEER, receiver) as server,
            closing(Client(int(server.first["port"]))) as client,
        ):
            for number in range(_WARM_UP):
                client.get(_path(number))
            collector.ask(mode=mode)
            yield client


def _pair(healthy: Client, hanging: Client, requests: int) -> Pair:
    taken: dict[Client, list[float]] = {healthy: [], hanging: []}
    for first in range(0, requests, _TURN):
        order = (healthy, hanging) if first // _TURN % 2 == 0 else (hanging, healthy)
        for client in order:
            taken[client] += _turn(client, first, min(_TURN, requests - first))
    return Pair(_p99_ms(taken[healthy]), _p99_ms(taken[hanging]))


def _turn(client: Client, first: int, count: int) -> list[float]:
    """Asks at the fixed rate; how long each request took, in seconds, from when it was due."""
    started = time.perf_counter()
    taken = []
    for number in range(count):
        due = started + number / (2 * _RATE)
        while (left_s := due - time.perf_counter()) > 0:
            time.sleep(left_s)
        client.get(_path(first + number))
        taken.append(time.perf_counter() - due)
    return taken


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
