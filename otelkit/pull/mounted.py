"""The ASGI application that `otelkit.metrics_app` returns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from otelkit.pull.answering import Answer, respond
from otelkit.pull.endpoint import without_metrics

if TYPE_CHECKING:
    from otelkit.pull.endpoint import Pull

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class MetricsApp:
    """Answers GET with the metrics, whatever the path: where it is mounted is /metrics.

    `state` gives what is pulled at the time, None for nothing, and the token that it needs. Collecting runs in a thread
    of asyncio's default pool: a callback that is observed may take its time.
    """

    def __init__(self, state: Callable[[], tuple[Pull | None, str | None]]) -> None:
        self._state = state

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # an event loop that is not asyncio's
            answer = self._answer(scope)
        else:
            answer = await loop.run_in_executor(None, self._answer, scope)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _answer(self, scope: MutableMapping[str, Any]) -> Answer:
        pull, token = self._state()
        exposition = pull.exposition if pull is not None else without_metrics()
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            known = headers.get(name.decode("latin-1").lower())
            text = value.decode("latin-1")
            headers[name.decode("latin-1").lower()] = text if known is None else f"{known},{text}"
        client = scope.get("client")
        return respond(exposition, token, scope["method"], client[0] if client else None, headers)
