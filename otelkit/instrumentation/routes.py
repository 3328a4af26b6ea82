"""Which route answers a request: its template, with the prefixes of mounts and routers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]

MARK = "otelkit.request"
"""The scope's key of the request that is recorded; True where none is to be."""
_MOUNTED = "otelkit.mounted"
_REST = "/{path}"
"""What Starlette adds to the template of a mount."""

_watching = 0
_undo: list[Callable[[], None]] = []


def template(scope: Scope) -> str | None:
    """The route's template with the prefixes of mounts and routers; None where no route matched.

    `scope["route"]` knows neither an including router's prefix (fastapi keeps that in its own context) nor a mount's.
    What is mounted and has no routes, such as static files, has the mount's template.
    """
    own = scope.get("fastapi")
    context = own.get("effective_route_context") if own is not None and isinstance(own, Mapping) else None
    path = getattr(context, "path_format", None)
    if not path:
        route = scope.get("route")
        path = getattr(route, "path_format", None) or getattr(route, "path", None)
    mounted = scope.get(_MOUNTED)
    if not isinstance(path, str):
        return None if mounted is None else f"{mounted}{_REST}"
    return path if mounted is None else f"{mounted}{path}"


def watch() -> Callable[[], None]:
    """Lets each request know the scope that its route is chosen in, which middleware may have copied, and the
    templates of the mounts on its way; returns the undo.

    The path that a mount has taken stands in the scope too, but with the values of its parameters.
    """
    global _watching
    _watching += 1
    if _watching == 1:
        from starlette.routing import Mount, Route, WebSocketRoute

        _undo[:] = [_replace(Route, _chosen), _replace(WebSocketRoute, _chosen), _replace(Mount, _mounted)]
    left = False

    def undo() -> None:
        nonlocal left
        global _watching
        if left:
            return
        left = True
        _watching -= 1
        if _watching == 0:
            for each in _undo:
                each()

    return undo


Handle = Callable[[Any, Scope, Any, Any], Awaitable[None]]


def _chosen(original: Handle) -> Handle:
    def handle(self: Any, scope: Scope, receive: Any, send: Any) -> Awaitable[None]:
        request = scope.get(MARK)
        if request is not None and request is not True:
            scope.setdefault("route", self)  # Starlette does it from 1.7
            request.scope = scope
        return original(self, scope, receive, send)

    return handle


def _mounted(original: Handle) -> Handle:
    def handle(self: Any, scope: Scope, receive: Any, send: Any) -> Awaitable[None]:
        request = scope.get(MARK)
        if request is not None and request is not True:
            scope[_MOUNTED] = f"{scope.get(_MOUNTED, '')}{self.path_format.removesuffix(_REST)}"
            request.scope = scope
        return original(self, scope, receive, send)

    return handle


def _replace(cls: type[Any], around: Callable[[Handle], Handle]) -> Callable[[], None]:
    original: Handle = cls.handle
    replaced = around(original)
    cls.handle = replaced

    def undo() -> None:
        if cls.handle is replaced:
            cls.handle = original

    return undo
