"""No telemetry: what everything else is compared with."""

from __future__ import annotations

from collections.abc import Collection

from benchmarks.peers import Flush, Peer, Sends


def start(libraries: Collection[str]) -> Flush:
    return lambda: None


PEER = Peer(
    "no telemetry",
    start,
    sends={"ping": Sends(0, 0), "order": Sends(0, 0), "task": Sends(0, 0)},
    lacks="everything",
)
