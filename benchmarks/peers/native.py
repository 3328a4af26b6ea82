"""OpenTelemetry's SDK under FastAPI's own telemetry, at its cheapest; contrib for the other libraries."""

from __future__ import annotations

from benchmarks.peers import Flush, Peer
from benchmarks.peers.contrib import LIBRARIES, SDK, instrument_libraries, set_up_sdk


def start() -> Flush:
    flush = set_up_sdk()
    instrument_libraries()
    return flush


PEER = Peer(
    "OpenTelemetry, FastAPI native",
    start,
    requirements=(*SDK, *LIBRARIES),
    # By default it makes a span for every dependency, endpoint and serialisation.
    fastapi_options={"telemetry": {"operation_spans": False}},
    lacks="durations of SQL statements and Redis commands, cache hits, waits for a connection, process and runtime"
    " metrics, request ids, client addresses, the code's place of log lines, the server's own log lines",
)
