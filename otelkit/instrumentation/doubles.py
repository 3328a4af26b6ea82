"""Keeps what otelkit records from being recorded a second time by an application that switches on OpenTelemetry itself.

Whoever was there first goes on: an instrumentation of contrib's that the application has switched on before `bootstrap`
keeps its library; one that it switches on later does nothing and says so.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggingHandler

from otelkit.engine.seams import provider_of

logger = logging.getLogger("otelkit.instrumentation")

Undo = Callable[[], None]


def switched_on(entry: EntryPoint) -> bool:
    """Whether the application has switched on an instrumentation of contrib's."""
    instrumentor = getattr(sys.modules.get(entry.module), entry.attr, None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)


def keep_off(entry: EntryPoint) -> Undo:
    """Has an instrumentation of contrib's do nothing from now on when it is switched on."""
    instrumentor: Any = entry.load()

    def instrument(self: object, **kwargs: object) -> None:
        logger.warning(
            "%s().instrument() does nothing: otelkit records %s already; OTELKIT_INSTRUMENT_%s=contrib leaves it to"
            " contrib",
            entry.attr, entry.name, entry.name.upper().replace("-", "_"),
        )  # fmt: skip

    return _replaced(instrumentor, "_instrument", instrument)


def pass_recorded_requests() -> Undo:
    """Has contrib's ASGI middleware, which the application may have added, pass on what otelkit records."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    from otelkit.instrumentation.routes import MARK

    original = OpenTelemetryMiddleware.__call__

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if MARK in scope:
            await self.app(scope, receive, send)
        else:
            await original(self, scope, receive, send)

    return _replaced(OpenTelemetryMiddleware, "__call__", call)


def skip_exported_records() -> Undo:
    """Has the SDK's logging handler leave out what otelkit hands to the same provider."""
    return _skipping(LoggingHandler)


def skip_exported_records_of_contrib() -> Undo:
    """The same for contrib's handler, which takes the SDK's place."""
    from opentelemetry.instrumentation.logging.handler import LoggingHandler as Handler

    return _skipping(Handler)


def _skipping(handler: Any) -> Undo:
    original = handler.emit

    def emit(self: Any, record: logging.LogRecord) -> None:
        if provider_of(self) is not _logs.get_logger_provider():
            original(self, record)

    return _replaced(handler, "emit", emit)


def _replaced(owner: Any, name: str, by: Any) -> Undo:
    original = getattr(owner, name)
    setattr(owner, name, by)

    def undo() -> None:
        if getattr(owner, name) is by:
            setattr(owner, name, original)

    return undo
