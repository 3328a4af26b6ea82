"""The logging module: every record that the application makes becomes an OpenTelemetry log record; what it prints
stays.

Records below a logger's effective level are never made, and lowering the root's level would change what the
application prints. So three methods of `logging.Logger` are wrapped: `getEffectiveLevel` admits records from
OTELKIT_LOG_LEVEL where the level is the root's, `makeRecord` marks those that the real level would not have, and
`callHandlers` exports all and passes on to the application's handlers those without the mark. This survives dictConfig,
Celery's taking over of the root logger, loggers that do not propagate (uvicorn's), and records of other processes that
are handed to `Logger.handle`, which asks for no level.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry._logs import Logger, SeverityNumber, get_logger

from otelkit.config.settings import Settings
from otelkit.instrumentation.log_fields import STANDARD_FIELDS, encodable
from otelkit.runtime import guard
from otelkit.signals import exceptions

_OWN = "otelkit"
_CACHED_LOGGERS = 1024
_PRINTED = "__otelkit_printed__"
_LEVELS = {"trace": 5, "warn": logging.WARNING, "fatal": logging.CRITICAL}


def level_number(name: str) -> int:
    """A level's number from its name in a setting."""
    return _LEVELS.get(name) or int(getattr(logging, name.upper()))


def install(settings: Settings) -> Callable[[], None]:
    """Exports the application's log records; returns the undo."""
    export = _Export()
    threshold = level_number(settings.log_level)
    json_logs = None
    if settings.log_format == "json":
        from otelkit.instrumentation.json_logs import JsonLogs

        json_logs = JsonLogs(settings.log_fields)
    original_level = logging.Logger.getEffectiveLevel
    original_make = logging.Logger.makeRecord
    original_call = logging.Logger.callHandlers

    def getEffectiveLevel(self: logging.Logger) -> int:  # noqa: N802 - the wrapped method's name
        logger: logging.Logger | None = self
        while logger is not None and logger.parent is not None:
            if logger.level:
                return original_level(self)
            logger = logger.parent
        return min(original_level(self), threshold)

    def makeRecord(self: logging.Logger, name: str, level: int, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: N802 - as above
        record = original_make(self, name, level, *args, **kwargs)
        vars(record)[_PRINTED] = level >= original_level(self)
        return record

    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802 - as above
        printed = vars(record).pop(_PRINTED, None)
        if printed is None:  # not made by makeRecord as it is here: another process's record, or a logger class's own
            printed = type(self).makeRecord is makeRecord or record.levelno >= original_level(self)
        export(record)
        if json_logs is not None:
            json_logs.apply()
        if printed:
            original_call(self, record)

    logging.Logger.getEffectiveLevel = getEffectiveLevel  # type: ignore[method-assign]
    logging.Logger.makeRecord = makeRecord  # type: ignore[method-assign]
    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]
    _clear_level_caches()
    if json_logs is not None:
        json_logs.apply()

    def undo() -> None:
        if logging.Logger.getEffectiveLevel is getEffectiveLevel:
            logging.Logger.getEffectiveLevel = original_level  # type: ignore[method-assign]
        if logging.Logger.makeRecord is makeRecord:
            logging.Logger.makeRecord = original_make  # type: ignore[method-assign]
        if logging.Logger.callHandlers is callHandlers:
            logging.Logger.callHandlers = original_call  # type: ignore[method-assign]
        _clear_level_caches()
        if json_logs is not None:
            json_logs.undo()

    return undo


def _clear_level_caches() -> None:
    """Each logger remembers which levels are enabled; setting any level makes all of them forget."""
    root = logging.getLogger()
    root.setLevel(root.level)


class _Export:
    """Translates and emits; never again from within itself, and nothing of otelkit's own."""

    def __init__(self) -> None:
        self._busy = threading.local()
        self._loggers: dict[str, Logger] = {}

    def __call__(self, record: logging.LogRecord) -> None:
        name = record.name
        if name.startswith(_OWN) and (name == _OWN or name[len(_OWN)] == "."):
            return
        # Our HTTP client logs at DEBUG from these threads: exporting that would make the next request.
        if (record.threadName or "").startswith("otelkit-") or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            logger = self._loggers.get(name)
            if logger is None:
                if len(self._loggers) >= _CACHED_LOGGERS:
                    self._loggers.clear()
                logger = self._loggers[name] = get_logger(name)
            severity = severity_number(record.levelno)
            logger.emit(
                timestamp=int(record.created * 1e9),
                severity_number=severity,
                severity_text=record.levelname,
                body=_body(record),
                attributes=_attributes(record),
            )
        except Exception:  # noqa: BLE001 - a log call never fails the application
            guard.report("the export of a log record")
        finally:
            self._busy.now = False


def severity_number(level: int) -> SeverityNumber:
    """The data model's severity for a level of the logging module; levels between two take the lower one's next
    steps.
    """
    if level < logging.DEBUG:
        return SeverityNumber.TRACE
    step = min(level // 10, 5)
    base = {1: 5, 2: 9, 3: 13, 4: 17, 5: 21}[step]
    return SeverityNumber(min(base + min((level - step * 10) // 3, 3), 24))


def _body(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit the format: logging prints an error, we keep the format
        return str(encodable(record.msg))


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "code.file.path": record.pathname,
        "code.function.name": record.funcName,
        "code.line.number": record.lineno,
    }
    # Celery puts a task's arguments and result there.
    hidden = "data" if record.name.startswith("celery.") else None
    for key, value in vars(record).items():
        if key not in STANDARD_FIELDS and key != hidden:
            attributes[key] = encodable(value)
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        known = exceptions.recorded(error)
        if known is None:
            attributes.update(exceptions.attributes(error))
        else:  # its stack trace stands in the record that was first
            attributes["exception.type"] = exceptions.type_name(error)
            attributes[exceptions.FINGERPRINT] = known
    return attributes
