"""otelkit with every default on."""

from __future__ import annotations

from benchmarks.environments import CHECKOUT
from benchmarks.peers import Flush, Peer


def start() -> Flush:
    import otelkit

    otelkit.bootstrap()
    return lambda: otelkit.flush(30.0)


PEER = Peer(
    "otelkit",
    start,
    requirements=("--editable", f"{CHECKOUT}[fastapi,sqlalchemy,redis]"),
    lacks="sizes of responses, spans for single ASGI messages and for a pool's connects",
)
