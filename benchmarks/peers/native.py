"""OpenTelemetry's SDK under FastAPI's own telemetry, at its cheapest; contrib for the other libraries."""

from __future__ import annotations

from collections.abc import Collection

from benchmarks.peers import Flush, Peer, Sends
from benchmarks.peers.contrib import LIBRARIES, SDK, instrument, set_up_sdk


def start(libraries: Collection[str]) -> Flush:
    flush = set_up_sdk()
    instrument(libraries)
    return flush


PEER = Peer(
    "OpenTelemetry, FastAPI native",
    start,
    # The statement has a span for its connection too. Tasks would be contrib's.
    sends={"ping": Sends(1, 0), "order": Sends(4, 1)},
    package="opentelemetry-sdk",
    requirements=(*SDK, *LIBRARIES),
    # By default it makes a span for every dependency, endpoint and serialisation.
    fastapi_options={"telemetry": {"operation_spans": False}},
    lacks="durations of SQL statements and Redis commands, cache hits, waits for a connection, process and runtime"
    " metrics, request ids, client addresses, the code's place of log lines, the server's own log lines",
)
