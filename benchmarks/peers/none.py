"""No telemetry: what everything else is compared with."""

from __future__ import annotations

from benchmarks.peers import Flush, Peer


def start() -> Flush:
    return lambda: None


PEER = Peer("no telemetry", start, lacks="everything")
