"""Resident memory of a server after many requests, by peer: nine requests to /ping for each to /orders."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.cpu import resident_bytes
from benchmarks.peers import peer
from benchmarks.processes import Received, Sink
from benchmarks.report import table
from benchmarks.requests import ORDER, PING, Shop, shop
from benchmarks.rounds import Load, missing, summed

_WARM_UP = 500
_PINGS, _ORDERS = 900, 100
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """Resident bytes of a server and its helper processes: after its warm-up, and after all requests."""

    warm: int
    after: int


def measure(peers: Sequence[str], *, requests: int) -> dict[str, Memory | str]:
    """Each peer's memory, or why there is no figure; as many peers at once as the machine has cores."""
    with shop(peers) as place, ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return dict(zip(peers, pool.map(lambda name: _measured(place, name, requests), peers), strict=True))


def _measured(place: Shop, name: str, requests: int) -> Memory | str:
    started = time.monotonic()
    receiver = place.receivers[name]
    try:
        with place.serve(name, receiver) as load:
            for route in (PING, ORDER):
                load.run(route, 0, _WARM_UP)
            load.child.ask()
            receiver.received()
            warm = resident_bytes(load.child.pid)
            done, received = _asked(load, receiver, requests)
            lost = missing(name, done, received)
            if lost:
                raise RuntimeError(lost)
            found = Memory(warm, resident_bytes(load.child.pid))
    except (RuntimeError, OSError) as error:
        print(f"{peer(name).title}: {error}", file=sys.stderr, flush=True)
        return str(error)
    print(f"{peer(name).title}: {requests} requests in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def _asked(load: Load, receiver: Sink, requests: int) -> tuple[dict[str, int], Received]:
    """Asks; how often for each route, and what arrived."""
    done = {PING.key: 0, ORDER.key: 0}
    received = []
    while sum(done.values()) < requests:
        for route, count in ((PING, _PINGS), (ORDER, _ORDERS)):
            load.run(route, done[route.key], count)
            done[route.key] += count
        # Again and again, so that the sink keeps little.
        received.append(receiver.received())
    load.child.ask()
    return done, summed([*received, receiver.received()])


def shown(found: Mapping[str, Memory | str], requests: int) -> str:
    """The table, in MiB."""
    bare = found.get("none")
    rows = []
    for name, memory in found.items():
        title = peer(name).title
        if isinstance(memory, str):
            rows.append((title, f"error: {memory.splitlines()[0]}", "", ""))
            continue
        added = f"{(memory.after - bare.after) / _MIB:.1f}" if isinstance(bare, Memory) and name != "none" else ""
        rows.append((title, f"{memory.warm / _MIB:.1f}", f"{memory.after / _MIB:.1f}", added))
    return table(("resident MiB", "warm", f"after {requests} requests", "added"), rows)
