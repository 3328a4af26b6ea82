"""Starlette: every application, also those made before, by its class's `__call__`."""

from __future__ import annotations

from collections.abc import Callable

from otelkit.config.settings import Settings
from otelkit.instrumentation import routes
from otelkit.instrumentation.asgi import AsgiLayer, wrap_application_class


def install(settings: Settings) -> Callable[[], None]:
    """Records the requests of every Starlette application but FastAPI's, which has a choice of its own; returns the
    undo.
    """
    from starlette.applications import Starlette

    undo = [wrap_application_class(Starlette, AsgiLayer(settings).around, skip=("fastapi",)), routes.watch()]

    def undo_all() -> None:
        for each in undo:
            each()

    return undo_all
