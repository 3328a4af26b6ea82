"""Elastic's APM agent."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from benchmarks.peers import Flush, Peer, Sends


def start(libraries: Collection[str]) -> Flush:
    import elasticapm

    if "celery" in libraries:
        from elasticapm.contrib.celery import register_exception_tracking, register_instrumentation

        client = elasticapm.Client()
        register_exception_tracking(client)
        register_instrumentation(client)
    else:
        from elasticapm.contrib.starlette import make_apm_client

        client = make_apm_client()
    elasticapm.instrument()
    return lambda: client._transport.flush()  # the client has no flush of its own


def app_made(app: Any) -> None:
    """Adds the middleware, where it is a web application."""
    from elasticapm import get_client
    from fastapi import FastAPI

    if isinstance(app, FastAPI):
        from elasticapm.contrib.starlette import ElasticAPM

        app.add_middleware(ElasticAPM, client=get_client())


def _environ(sink_url: str) -> dict[str, str]:
    return {"ELASTIC_APM_SERVER_URL": sink_url, "ELASTIC_APM_SERVICE_NAME": "benchmark"}


PEER = Peer(
    "elastic-apm",
    start,
    sends={"ping": Sends(1, 0), "order": Sends(3, 0), "task": Sends(2, 0)},
    package="elastic-apm",
    requirements=("elastic-apm",),
    environ=_environ,
    app_made=app_made,
    lacks="log records, durations as metrics",
)
