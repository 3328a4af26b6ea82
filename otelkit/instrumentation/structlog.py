"""structlog: what it prints by itself is exported; what it hands to the logging module is exported there.

Before the last processor of a logger's chain, which makes the text to print, stands one of ours: it sees what the
application's own processors have added, masked and dropped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from otelkit.config.settings import Settings
from otelkit.engine import door
from otelkit.instrumentation import log_fields
from otelkit.instrumentation.logging import level_number, severity_number
from otelkit.runtime import guard

_LEVELS = {
    "debug": logging.DEBUG,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "err": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
"""By the method that was called; INFO for any other."""


def install(settings: Settings) -> Callable[[], None]:
    """Exports the events of every bound logger, made earlier or later; returns the undo."""
    from structlog import BoundLoggerBase

    export = _Export(level_number(settings.log_level))
    original = BoundLoggerBase._process_event  # documented, for wrapper classes

    def _process_event(self: Any, method_name: str, event: str | None, event_kw: dict[str, Any]) -> Any:
        processors = self._processors
        if export not in processors:
            self._processors = [*processors[:-1], export, *processors[-1:]]
        return original(self, method_name, event, event_kw)

    BoundLoggerBase._process_event = _process_event  # type: ignore[method-assign]

    def undo() -> None:
        export.on = False
        if BoundLoggerBase._process_event is _process_event:
            BoundLoggerBase._process_event = original  # type: ignore[method-assign]

    return undo


class _Export:
    """The processor; it changes nothing."""

    def __init__(self, threshold: int) -> None:
        self.on = True
        self._threshold = threshold

    def __call__(self, logger: Any, method_name: str, event_dict: Any) -> Any:
        level = _LEVELS.get(method_name, logging.INFO)
        if self.on and level >= self._threshold and not isinstance(logger, logging.Logger):
            with guard.guarded("the export of a structlog event"):
                body, event_name, attributes = log_fields.of_structlog(event_dict)
                name = event_dict.get("logger")
                door.logger(name if isinstance(name, str) else "structlog").write(
                    time.time_ns(),
                    severity_number(level).value,
                    logging.getLevelName(level),
                    body,
                    None,
                    attributes,
                    event_name,
                )
        return event_dict
