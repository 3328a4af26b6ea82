"""loguru: a sink of ours exports its records; it is there again whenever the application removes all sinks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from otelkit.config.settings import Settings
from otelkit.engine import door
from otelkit.instrumentation import log_fields
from otelkit.instrumentation.logging import level_number, severity_number
from otelkit.runtime import guard
from otelkit.signals import exceptions

_MOST_FRAMES = 20


def install(settings: Settings) -> Callable[[], None]:
    """Exports from OTELKIT_LOG_LEVEL on, but for what the logging module hands over; returns the undo."""
    from loguru import logger

    threshold = level_number(settings.log_level)
    from_logging = settings.instrument("logging") != "off"

    @guard.guard("the export of a loguru record")
    def sink(message: Any) -> None:
        if not (from_logging and _handed_over_by_logging()):
            _export(message.record)

    def add() -> int:
        # Without a format there is no text of the exception, and none of the values in its frames.
        number: int = logger.add(sink, level=threshold, format=_no_text, colorize=False, diagnose=False, catch=True)
        return number

    kind: Any = type(logger)
    original = kind.remove
    ours = add()

    def remove(self: Any, handler_id: int | None = None) -> None:
        nonlocal ours
        original(self, handler_id)
        if handler_id is None:
            ours = add()

    kind.remove = remove

    def undo() -> None:
        if kind.remove is remove:
            kind.remove = original
        with guard.guarded("the removal of the loguru sink"):
            original(logger, ours)

    return undo


def _no_text(_: Any) -> str:
    return ""


def _export(record: Any) -> None:
    fields = dict(record["extra"])
    event_name = fields.pop("event_name", None)
    attributes = {str(key): log_fields.encodable(value) for key, value in fields.items()}
    attributes |= {
        "code.file.path": record["file"].path,
        "code.function.name": record["function"],
        "code.line.number": record["line"],
    }
    if record["exception"] is not None and record["exception"].value is not None:
        attributes |= exceptions.mentioned(record["exception"].value)
    level = record["level"]
    door.logger(record["name"] or "loguru").write(
        int(record["time"].timestamp() * 1e9),
        severity_number(level.no).value,
        level.name,
        record["message"],
        None,
        attributes,
        event_name if isinstance(event_name, str) else None,
    )


def _handed_over_by_logging() -> bool:
    """Whether a handler of the logging module made this record of one that is exported already."""
    frame = sys._getframe(2)
    for _ in range(_MOST_FRAMES):
        if frame.f_code.co_name == "callHandlers" and frame.f_code.co_filename == logging.__file__:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
