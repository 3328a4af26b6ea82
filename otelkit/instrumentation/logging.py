"""The logging module: every record that the application makes becomes an OpenTelemetry log record; what it prints
stays.

Records below a logger's effective level are never made, and lowering the root's level would change what the
application prints. So two methods of `logging.Logger` are wrapped: `getEffectiveLevel` admits records from
OTELKIT_LOG_LEVEL where the level is the root's, and `callHandlers` exports them and passes on to the application's
handlers only what the real level admits. This survives dictConfig, Celery's taking over of the root logger, and
loggers that do not propagate (uvicorn's).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry._logs import Logger, SeverityNumber, get_logger

from otelkit.config.settings import Settings
from otelkit.instrumentation.log_fields import STANDARD_FIELDS
from otelkit.runtime import guard
from otelkit.signals import exceptions

_OWN = "otelkit"
_LONGEST_REPR = 4096
_CACHED_LOGGERS = 1024
_LEVELS = {"trace": 5, "warn": logging.WARNING, "fatal": logging.CRITICAL}
_PRIMITIVES = (str, bool, int, float)


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
    original_call = logging.Logger.callHandlers

    def getEffectiveLevel(self: logging.Logger) -> int:  # noqa: N802 - the wrapped method's name
        logger: logging.Logger | None = self
        while logger is not None and logger.parent is not None:
            if logger.level:
                return original_level(self)
            logger = logger.parent
        return min(original_level(self), threshold)

    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802 - as above
        export(record)
        if json_logs is not None:
            json_logs.apply(add=True)
        if record.levelno >= original_level(self):
            original_call(self, record)

    logging.Logger.getEffectiveLevel = getEffectiveLevel  # type: ignore[method-assign]
    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]
    _clear_level_caches()
    if json_logs is not None:
        json_logs.apply(add=False)

    def undo() -> None:
        if logging.Logger.getEffectiveLevel is getEffectiveLevel:
            logging.Logger.getEffectiveLevel = original_level  # type: ignore[method-assign]
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
    for key, value in vars(record).items():
        if key not in STANDARD_FIELDS:
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


def encodable(value: object) -> object:
    """The value if OTLP has a type for it, else its repr, cut at 4096 characters."""
    if value is None or isinstance(value, (*_PRIMITIVES, bytes)):
        return value
    if isinstance(value, Mapping):
        return {str(key): encodable(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [encodable(item) for item in value]
    try:
        return repr(value)[:_LONGEST_REPR]
    except Exception:  # noqa: BLE001 - an object's own __repr__ may raise
        return f"<{type(value).__name__} without a repr>"
