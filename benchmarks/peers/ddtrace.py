"""ddtrace as `ddtrace-run` starts it."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
from collections.abc import Collection

from benchmarks.peers import Flush, Peer, Sends


def start(libraries: Collection[str]) -> Flush:
    # It would make a span of every question for the next task.
    if "redis" not in libraries:
        os.environ["DD_TRACE_REDIS_ENABLED"] = "false"

    import ddtrace.auto  # noqa: F401 - its import is the start
    from ddtrace.trace import tracer

    return lambda: tracer.flush()


def _environ(sink_url: str) -> dict[str, str]:
    return {"DD_TRACE_AGENT_URL": sink_url, "DD_SERVICE": "benchmark", "DD_TRACE_SAMPLE_RATE": "1"}


PEER = Peer(
    "ddtrace",
    start,
    # The serialisation of the response has a span, and the end of the transaction.
    sends={"ping": Sends(2, 0), "order": Sends(5, 0), "task": Sends(3, 0)},
    package="ddtrace",
    requirements=("ddtrace",),
    environ=_environ,
    lacks="log records (it adds the trace's id to what the application prints), metrics",
)
