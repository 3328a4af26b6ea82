"""FastAPI: every application, also those made before, by its class's `__call__`.

FastAPI's own telemetry stays silent meanwhile: it looks for its key in the scope (facts of fastapi >= 0.142), and so
does contrib's middleware for its marker.
"""

from __future__ import annotations

from collections.abc import Callable

from otelkit.config.settings import Settings
from otelkit.instrumentation import routes
from otelkit.instrumentation.asgi import AsgiLayer, silence_native, wrap_application_class


def install(settings: Settings) -> Callable[[], None]:
    """Records the requests of every FastAPI application; returns the undo."""
    from fastapi import FastAPI

    undo = [wrap_application_class(FastAPI, AsgiLayer(settings).around), routes.watch()]

    def undo_all() -> None:
        for each in undo:
            each()

    return undo_all


def silence(settings: Settings) -> Callable[[], None]:
    """Keeps FastAPI's own telemetry silent where nobody shall record its requests; returns the undo."""
    from fastapi import FastAPI

    return silence_native(FastAPI)
