"""CPU per HTTP request: the same application under every peer, asked over one keep-alive connection each."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from benchmarks.app import DATABASE, REDIS_URL
from benchmarks.environments import peer_environment
from benchmarks.load import Client
from benchmarks.peers import peer
from benchmarks.processes import Child, Sink, child, clean_environment
from benchmarks.rounds import Comparison, Load, Workload, compare, sinks
from examples.shop.redis_server import redis_server

PING = Workload("ping", "GET /ping", "request", turn=25)
ORDER = Workload("order", "GET /orders/{number}", "request", turn=20)
ORDERS = 500
_WARM_UP = 200


def measure(peers: Sequence[str], *, rounds: int, requests: int) -> list[Comparison]:
    """Compares both routes. `none` should be among the peers."""
    with shop(peers) as place:
        return compare((PING, ORDER), place.receivers, place.serve, rounds=rounds, count=requests, warm_up=_WARM_UP)


@dataclass(frozen=True)
class Shop:
    """What the peers' processes share, and each peer's environment and receiver."""

    folder: Path
    redis_url: str
    environ: Mapping[str, str]
    pythons: Mapping[str, Path]
    receivers: Mapping[str, Sink]

    @contextmanager
    def run(self, module: str, name: str, receiver: Sink) -> Iterator[Child]:
        """Runs a module under a peer. Raises RuntimeError when it does not start."""
        environ = {**self.environ, **peer(name).environ(receiver.url)}
        log = self.folder / f"{name}.log"
        with child(self.pythons[name], module, name, environ=environ, log=log) as process:
            yield process

    @contextmanager
    def serve(self, name: str, receiver: Sink) -> Iterator[Load]:
        """Runs a peer's server, with a client. Raises RuntimeError when it does not start."""
        with (
            self.run("benchmarks.serve", name, receiver) as server,
            closing(Client(int(server.first["port"]))) as client,
        ):

            def ask(route: Workload, first: int, count: int) -> None:
                for number in range(first, first + count):
                    client.get("/ping" if route is PING else f"/orders/{number % ORDERS + 1}")

            yield Load(server, ask)


@contextmanager
def shop(peers: Sequence[str]) -> Iterator[Shop]:
    """Makes the environments, a Redis and a database with orders, and runs a receiver for each peer."""
    pythons = {name: peer_environment(name) for name in peers}
    with tempfile.TemporaryDirectory(prefix="otelkit-bench-") as temporary, redis_server() as redis_url:
        folder = Path(temporary)
        variables = {DATABASE: str(seed(folder, redis_url)), REDIS_URL: redis_url}
        environ = clean_environment(OTELKIT_STATE_DIR=str(folder / "state"), **variables)
        with sinks(peers, folder) as receivers:
            yield Shop(folder, redis_url, environ, pythons, receivers)


def seed(folder: Path, redis_url: str) -> Path:
    """A database with orders, and their stock in Redis."""
    path = folder / "shop.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, sku TEXT)")
        database.executemany("INSERT INTO orders VALUES (?, ?)", [(n, f"sku-{n}") for n in range(1, ORDERS + 1)])
    with Redis.from_url(redis_url) as client:
        client.mset({f"stock:sku-{number}": number for number in range(1, ORDERS + 1)})
    return path
