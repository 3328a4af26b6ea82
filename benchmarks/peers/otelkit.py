"""otelkit with every default on."""

from __future__ import annotations

from collections.abc import Collection

from benchmarks.environments import CHECKOUT
from benchmarks.peers import Flush, Peer, Sends


def start(libraries: Collection[str]) -> Flush:
    import otelkit

    otelkit.bootstrap()
    return lambda: otelkit.flush(30.0)


PEER = Peer(
    "otelkit",
    start,
    sends={"ping": Sends(1, 0), "order": Sends(3, 1), "task": Sends(2, 1)},
    package="otelkit",
    requirements=("--editable", f"{CHECKOUT}[fastapi,sqlalchemy,redis,celery]"),
    lacks="sizes of responses, spans for single ASGI messages and for a pool's connects",
)
