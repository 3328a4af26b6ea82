"""The peers: one module each with a `PEER`, and its name in `NAMES`, in the order of the report.

A peer's module is imported in three places: by the harness, which has none of the peer's packages, by the server in
the peer's own environment, and by type checkers. So it imports its packages within functions only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NAMES = (
    "none",
    "contrib",
    "native",
    "logfire",
    "sentry",
    "ddtrace",
    "elastic",
    "otelkit",
    "otelkit_sdk",
    "otelkit_1pct",
    "otelkit_recorder",
)

Flush = Callable[[], object]

WEB = ("fastapi", "sqlalchemy", "redis", "logging")
WORKER = ("celery", "sqlalchemy", "logging")
"""The libraries that an application uses. The worker's Redis is only its broker."""


class Sends(NamedTuple):
    """The records that one request or task makes."""

    spans: int
    logs: int


def otlp(sink_url: str) -> dict[str, str]:
    """The variables of whoever sends OTLP over HTTP."""
    return {"OTEL_SERVICE_NAME": "benchmark", "OTEL_EXPORTER_OTLP_ENDPOINT": sink_url}


@dataclass(frozen=True)
class Peer:
    """A telemetry library as its documentation says to set it up.

    `start` runs before the application's packages are imported and gets the libraries that it uses; it returns what
    sends everything recorded so far. `app_made` gets the FastAPI or Celery application. `environ` makes the variables
    from the sink's URL. `sends` says what `ping`, `order` and `task` make: fewer that arrive are an error, and a
    workload that it leaves out is not run. `traced` is the share of requests that make spans. `package` is the
    distribution whose version is shown; `environment` names the peer whose environment it runs in, if not its own.
    `lacks` says what it does not send of that which the application could tell.
    """

    title: str
    start: Callable[[Collection[str]], Flush]
    sends: Mapping[str, Sends]
    package: str = ""
    requirements: tuple[str, ...] = ()
    environment: str = ""
    environ: Callable[[str], Mapping[str, str]] = otlp
    fastapi_options: Mapping[str, object] = field(default_factory=dict)
    app_made: Callable[[Any], object] = lambda app: None
    traced: float = 1.0
    lacks: str = ""


def peer(name: str) -> Peer:
    """The peer of a name. Raises ImportError for a name without a module."""
    found = importlib.import_module(f"benchmarks.peers.{name}").PEER
    assert isinstance(found, Peer)
    return found
