"""Starlette: every application, also those made before, by its class's `__call__`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from otelkit.config.settings import Settings
from otelkit.instrumentation.asgi import AsgiLayer, wrap_application_class

_NAMES_ROUTES = (1, 7)
"""The first Starlette that leaves the route that it has chosen in the request's scope."""


def install(settings: Settings) -> Callable[[], None]:
    """Records the requests of every Starlette application but FastAPI's, which has a choice of its own; returns the
    undo.
    """
    import starlette
    from starlette.applications import Starlette
    from starlette.routing import Route, WebSocketRoute

    undo = [wrap_application_class(Starlette, AsgiLayer(settings).around, skip=("fastapi",))]
    if tuple(map(int, starlette.__version__.split(".")[:2])) < _NAMES_ROUTES:
        undo += [_name_routes(Route), _name_routes(WebSocketRoute)]

    def undo_all() -> None:
        for each in undo:
            each()

    return undo_all


def _name_routes(cls: type[Any]) -> Callable[[], None]:
    original: Callable[..., Awaitable[None]] = cls.handle

    def handle(self: Any, scope: dict[str, Any], receive: Any, send: Any) -> Awaitable[None]:
        scope.setdefault("route", self)
        return original(self, scope, receive, send)

    cls.handle = handle

    def undo() -> None:
        if cls.handle is handle:
            cls.handle = original

    return undo
