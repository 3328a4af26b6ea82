"""CPU per request: the server's whole process, all threads, until everything it recorded has been sent."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
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
_TURN = 100
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
    """Runs every peer in every round: new servers, asked in short turns. `none` should be among them."""
    pythons = {name: environment(name, (*APPLICATION, *peer(name).requirements)) for name in peers}
    found: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="otelkit-bench-") as temporary, redis_server() as redis_url:
        folder = Path(temporary)
        environ = clean_environment(
            OTEL_SERVICE_NAME="benchmark",
            OTELKIT_STATE_DIR=str(folder / "state"),
            **{DATABASE: str(_seed(folder, redis_url)), REDIS_URL: redis_url},
        )
        with ExitStack() as sinks:
            ports = {name: sinks.enter_context(sink(folder)) for name in peers}
            for number in range(rounds):
                with ExitStack() as servers:
                    running = []
                    for name in peers:
                        own = {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{ports[name]}"}
                        words, log = ("benchmarks.serve", name), folder / f"{name}.log"
                        server = servers.enter_context(child(pythons[name], *words, environ=own, log=log))
                        client = servers.enter_context(closing(Client(server.port)))
                        running.append(_Running(name, server, ports[name], client))
                    for route in ROUTES:
                        found += _round(number, route, running, requests)
    return found


class _Running:
    """A peer's server and its sink, during one round."""

    def __init__(self, name: str, server: Child, sink_port: int, client: Client) -> None:
        self.name = name
        self._server = server
        self._sink_port = sink_port
        self._client = client

    def ask(self, paths: Iterable[str]) -> None:
        """Asks for these paths."""
        for path in paths:
            self._client.get(path)

    def settle(self) -> tuple[float, dict[str, dict[str, int]]]:
        """Has everything sent; the process's CPU seconds so far, and what arrived since the last time."""
        cpu_s = float(self._server.ask()["cpu_s"])
        return cpu_s, received(self._sink_port)


def _round(number: int, route: Route, running: Sequence[_Running], requests: int) -> list[Measured]:
    """One route of one round. The peers take turns of few requests: what else the machine does hits all alike."""
    before: dict[str, tuple[float, dict[str, dict[str, int]]]] = {}
    for each in running:
        each.ask(islice(cycle(route.paths), _WARM_UP))
        before[each.name] = each.settle()
    asked = 0
    while asked < requests:
        turn = min(_TURN, requests - asked)
        for each in _turned(running, asked // _TURN):
            each.ask(islice(cycle(route.paths), asked, asked + turn))
        asked += turn
    found = []
    for each in running:
        started_s, warm = before[each.name]
        ended_s, arrived = each.settle()
        expected = {kind: round(sum(warm[kind].values()) / _WARM_UP) * requests for kind in ("spans", "logs")}
        cpu_us = (ended_s - started_s) / requests * 1e6
        found.append(Measured(number, each.name, route.name, requests, cpu_us, expected, arrived))
    return found


def _turned(running: Sequence[_Running], by: int) -> list[_Running]:
    """The peers in another order at each turn: nobody is always after the same one."""
    by %= len(running)
    return [*running[by:], *running[:by]]


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
