"""logfire without its own service: spans and metrics over OTLP."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from benchmarks.peers import Flush, Peer, Sends


def start(libraries: Collection[str]) -> Flush:
    import logfire

    # Its lines on the console would cost it more.
    logfire.configure(send_to_logfire=False, console=False)
    logging.getLogger().addHandler(logfire.LogfireLoggingHandler())
    logfire.instrument_sqlalchemy()
    if "redis" in libraries:
        logfire.instrument_redis()
    if "celery" in libraries:
        logfire.instrument_celery()
    return lambda: logfire.force_flush(30_000)


def app_made(app: Any) -> None:
    """Instruments the application, where it is a web application."""
    import logfire
    from fastapi import FastAPI

    if isinstance(app, FastAPI):
        logfire.instrument_fastapi(app)


PEER = Peer(
    "logfire",
    start,
    # Log lines are spans; the statement has a span for its connection too.
    sends={"ping": Sends(1, 0), "order": Sends(5, 0), "task": Sends(4, 0)},
    package="logfire",
    requirements=("logfire[fastapi,sqlalchemy,redis,celery]",),
    app_made=app_made,
    lacks="log records (they are spans), durations of SQL statements and Redis commands, process and runtime metrics",
)
