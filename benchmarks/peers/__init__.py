"""The peers: one module each with a `PEER`, and its name in `NAMES`, in the order of the report.

A peer's module is imported in three places: by the harness, which has none of the peer's packages, by the server in
the peer's own environment, and by type checkers. So it imports its packages within `start` only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

NAMES = ("none", "contrib", "native", "otelkit")

APPLICATION = ("fastapi", "uvicorn[standard]", "sqlalchemy>=2.0,<2.1", "redis")
"""What every environment has. SQLAlchemy 2.0, since contrib's instrumentation refuses 2.1: the application must be the
same for all.
"""

Flush = Callable[[], object]


@dataclass(frozen=True)
class Peer:
    """A telemetry library as its documentation says to set it up.

    `start` runs before the application's packages are imported and returns what sends everything recorded so far.
    `lacks` says what it does not send of that which the application could tell.
    """

    title: str
    start: Callable[[], Flush]
    requirements: tuple[str, ...] = ()
    fastapi_options: Mapping[str, object] = field(default_factory=dict)
    lacks: str = ""


def peer(name: str) -> Peer:
    """The peer of a name. Raises ImportError for a name without a module."""
    found = importlib.import_module(f"benchmarks.peers.{name}").PEER
    assert isinstance(found, Peer)
    return found
