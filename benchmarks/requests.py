"""CPU per request: every peer's server, anew in each round and in turn, the whole process's time, exports included."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from redis import Redis

from benchmarks.app import DATABASE, REDIS_URL
from benchmarks.environments import environment
from benchmarks.load import Client
from benchmarks.peers import APPLICATION, NAMES, peer
from benchmarks.processes import Child, child, clean_environment, received, sink
from benchmarks.report import Spread, table
from examples.shop.redis_server import redis_server

ORDERS = 500
_WARM_UP = 200
_KINDS = ("spans", "logs", "points")


@dataclass(frozen=True)
class Route:
    """What is asked for, over and over."""

    name: str
    paths: tuple[str, ...]


ROUTES = (
    Route("GET /ping", ("/ping",)),
    Route("GET /orders/{number}", tuple(f"/orders/{number}" for number in range(1, ORDERS + 1))),
)


@dataclass(frozen=True)
class Measured:
    """One peer's requests to one route in one round.

    `expected` is what a request of the warm-up sent, times the requests; `received` what the sink got, by name.
    """

    round: int
    peer: str
    route: str
    requests: int
    cpu_us: float
    expected: dict[str, int]
    received: dict[str, dict[str, int]]

    def arrived(self, kind: str) -> int:
        """How many records of a kind the sink got."""
        return sum(self.received[kind].values())


def measure(peers: Sequence[str], *, rounds: int, requests: int) -> list[Measured]:
    """Runs every peer in every round, each round in another order. `none` should be among them."""
    pythons = {name: environment(name, (*APPLICATION, *peer(name).requirements)) for name in peers}
    found: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="otelkit-bench-") as name, redis_server() as redis_url:
        folder = Path(name)
        database = _seed(folder, redis_url)
        with sink(folder) as port:
            environ = clean_environment(
                OTEL_SERVICE_NAME="benchmark",
                OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
                OTELKIT_STATE_DIR=str(folder / "state"),
                **{DATABASE: str(database), REDIS_URL: redis_url},
            )
            for number in range(rounds):
                for name in _turned(peers, number):
                    log = folder / f"{name}.log"
                    with child(pythons[name], "benchmarks.serve", name, environ=environ, log=log) as server:
                        found += [_measure(number, name, route, requests, server, port) for route in ROUTES]
    return found


def _turned(peers: Sequence[str], by: int) -> list[str]:
    by %= len(peers)
    return [*peers[by:], *peers[:by]]


def _seed(folder: Path, redis_url: str) -> Path:
    path = folder / "shop.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, sku TEXT)")
    database.executemany("INSERT INTO orders VALUES (?, ?)", [(n, f"sku-{n}") for n in range(1, ORDERS + 1)])
    database.commit()
    database.close()
    with Redis.from_url(redis_url) as client:
        client.mset({f"stock:sku-{number}": number for number in range(1, ORDERS + 1)})
    return path


def _measure(number: int, name: str, route: Route, requests: int, server: Child, sink_port: int) -> Measured:
    client = Client(server.port)
    try:
        _ask(client, route, _WARM_UP)
        before_s = server.ask()["cpu_s"]
        warm = received(sink_port)
        _ask(client, route, requests)
        after_s = server.ask()["cpu_s"]
    finally:
        client.close()
    return Measured(
        number,
        name,
        route.name,
        requests,
        (after_s - before_s) / requests * 1e6,
        {kind: round(sum(warm[kind].values()) / _WARM_UP) * requests for kind in ("spans", "logs")},
        received(sink_port),
    )


def _ask(client: Client, route: Route, times: int) -> None:
    for path in islice(cycle(route.paths), times):
        client.get(path)


def requests_tables(found: Sequence[Measured]) -> str:
    """A table a route: CPU, what a peer adds to `none`'s of the same round, and what arrived."""
    return "\n\n".join(_route_table(route, [each for each in found if each.route == route.name]) for route in ROUTES)


def _route_table(route: Route, found: Sequence[Measured]) -> str:
    bare = {each.round: each.cpu_us for each in found if each.peer == "none"}
    added = {
        name: Spread.of(each.cpu_us - bare[each.round] for each in _of(found, name)) for name in _names(found) if bare
    }
    own = added.get("otelkit")
    rows = []
    for name in _names(found):
        runs = _of(found, name)
        more = added.get(name)
        compared = name != "none" and more is not None
        rows.append(
            (
                peer(name).title,
                Spread.of(each.cpu_us for each in runs).shown(),
                more.shown() if compared and more else "",
                f"{own.median / more.median:.2f}" if compared and more and own else "",
                _each(runs, "spans"),
                _each(runs, "logs"),
                f"{Spread.of(each.arrived('points') for each in runs).median:.0f}",
                _lost(runs),
            )
        )
    head = (route.name, "CPU us/request", "added", "otelkit / this", "spans", "logs", "points an export", "lost")
    return table(head, rows)


def _names(found: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(sorted((each.peer for each in found), key=NAMES.index)))


def _of(found: Sequence[Measured], name: str) -> list[Measured]:
    return [each for each in found if each.peer == name]


def _each(runs: Sequence[Measured], kind: str) -> str:
    """Records that a request sent, as the warm-up showed."""
    return str(max(each.expected[kind] // each.requests for each in runs))


def _lost(runs: Sequence[Measured]) -> str:
    """The share of the expected spans and log records that did not arrive."""
    expected = sum(sum(each.expected.values()) for each in runs)
    missing = sum(max(0, each.expected[kind] - each.arrived(kind)) for each in runs for kind in each.expected)
    return f"{missing / expected:.1%}" if expected else ""


def arrivals(found: Sequence[Measured]) -> str:
    """What each peer sent, by name, and what it lacks."""
    lines = []
    for name in _names(found):
        lines.append(f"{peer(name).title}")
        for kind in _KINDS:
            names = sorted({key for each in _of(found, name) for key in each.received[kind]})
            lines.append(f"  {kind}: {', '.join(names) or 'none'}")
        lines.append(f"  lacks: {peer(name).lacks}")
    return "\n".join(lines)
