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

from opentelemetry._logs import SeverityNumber

from otelkit.config.settings import Settings
from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.instrumentation import log_fields, log_messages
from otelkit.runtime import fork, guard
from otelkit.signals import exceptions

_OWN = "otelkit"
_OUR_THREADS = "otelkit-"
_CACHED_LOGGERS = 1024
_CACHED_PLACES = 4096
_STANDARD_COUNT = len(vars(logging.makeLogRecord({})))
"""A record with as many fields has nothing by `extra`."""
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
        thread = record.threadName
        # What the HTTP client says at DEBUG about our requests: exporting it would make the next request, and without
        # otelkit nobody would have said it.
        ours = thread is not None and thread.startswith(_OUR_THREADS)
        if not ours:
            export(record)
        if json_logs is not None:
            json_logs.apply()
        if printed and not ours:
            original_call(self, record)
        elif printed and _is_own(record.name):
            # A fork that finds this thread within a write to stderr leaves the stream locked in the child for ever.
            with fork.importing:
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


def _is_own(name: str) -> bool:
    return name.startswith(_OWN) and (name == _OWN or name[len(_OWN)] == ".")


class _Export:
    """Translates and emits; never again from within itself, and nothing of otelkit's own."""

    def __init__(self) -> None:
        self._busy = threading.local()
        self._loggers: dict[str, door.Writes | None] = {}
        self._places: dict[tuple[str, int], Shared] = {}
        self._severities: dict[int, int] = {}

    def __call__(self, record: logging.LogRecord) -> None:
        try:
            logger = self._loggers[record.name]
        except KeyError:
            logger = self._logger(record.name)
        busy = self._busy
        if logger is None or getattr(busy, "now", False):
            return
        busy.now = True
        try:
            place = self._places.get((record.pathname, record.lineno))
            if place is None:
                place = self._place(record)
            level = record.levelno
            severity = self._severities.get(level)
            if severity is None:
                severity = self._severities[level] = severity_number(level).value
            extra: dict[str, Any] | None = None
            body: str | None = None
            event_name: Any = None
            if len(vars(record)) != _STANDARD_COUNT:
                event = log_fields.structlog_event(record)
                if event is None:
                    extra = log_fields.extra(record)
                    if type(extra.get(log_fields.EVENT_NAME)) is str:
                        event_name = extra.pop(log_fields.EVENT_NAME)
                else:
                    body, event_name, extra = log_fields.of_structlog(event)
            if record.exc_info and record.exc_info[1] is not None:
                extra = {**(extra or {}), **exceptions.mentioned(record.exc_info[1])}
            if body is None:
                body = _body(record)
            created_ns = int(record.created * 1e9)
            if event_name is None:
                logger.write(created_ns, severity, record.levelname, body, place, extra)
            else:
                logger.write(created_ns, severity, record.levelname, body, place, extra, event_name)
        except Exception:  # noqa: BLE001 - a log call never fails the application
            guard.report("the export of a log record")
        finally:
            busy.now = False

    def _logger(self, name: str) -> door.Writes | None:
        """None for otelkit's own."""
        if len(self._loggers) >= _CACHED_LOGGERS:
            self._loggers.clear()
        found = self._loggers[name] = None if _is_own(name) else door.logger(name)
        return found

    def _place(self, record: logging.LogRecord) -> Shared:
        """Where in the code the record was made, as attributes that all records of that line share."""
        if len(self._places) >= _CACHED_PLACES:
            self._places.clear()
        found = self._places[(record.pathname, record.lineno)] = Shared(
            {
                "code.file.path": record.pathname,
                "code.function.name": record.funcName,
                "code.line.number": record.lineno,
            }
        )
        return found


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
        return log_messages.message(record)
    except Exception:  # noqa: BLE001 - arguments that do not fit the format: logging prints an error, we keep the format
        return str(log_fields.encodable(record.msg))
