"""JSON lines on the console: the root logger's stream handlers get a formatter, and uvicorn's, which do not
propagate.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from opentelemetry.trace import get_current_span
from pythonjsonlogger.json import JsonFormatter

from otelkit.instrumentation import log_fields, log_messages
from otelkit.signals import correlation, exceptions

_LOGGERS = ("", "uvicorn", "uvicorn.error", "uvicorn.access")


class Formatter(JsonFormatter):
    """One JSON object a line: timestamp, level, logger, message, ids, place, exception, extra."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(json_ensure_ascii=False, json_default=str)
        self._names = names

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        bound: Mapping[str, object] = correlation.bound() or {}
        span = get_current_span().get_span_context()
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        fields: dict[str, Any] = {
            "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": log_messages.message(record),
            "request_id": bound.get(correlation.REQUEST_ID),
            "user.id": bound.get("user.id"),
            "trace_id": f"{span.trace_id:032x}" if span.is_valid else None,
            "span_id": f"{span.span_id:016x}" if span.is_valid else None,
            "module": record.module,
            "function": record.funcName,
            "line": record.lineno,
            "exception": exceptions.stack_trace(record.exc_info[1]).rstrip()
            if record.exc_info and record.exc_info[1] is not None
            else None,
            "extra": log_fields.extra(record) or None,
        }
        log_data.update({self._names.get(key, key): value for key, value in fields.items() if value is not None})


class _LastResort(logging.StreamHandler):  # type: ignore[type-arg]
    """Prints to stderr, whatever that is at the moment, where no handler is configured."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class JsonLogs:
    """Puts the formatter onto handlers, also onto those that appear later (basicConfig, dictConfig), and takes it
    back.

    Where there is no handler at all, logging's last resort prints JSON as well. Nothing is added to the root logger:
    the application's basicConfig would find a handler there, and do nothing.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._formatter = Formatter(names)
        self._changed: list[tuple[logging.Handler, logging.Formatter | None]] = []
        self._last_resort = _LastResort(sys.stderr)
        self._last_resort.setFormatter(self._formatter)
        self._before, logging.lastResort = logging.lastResort, self._last_resort

    def apply(self) -> None:
        """Formats every stream handler there is."""
        for name in _LOGGERS:
            for handler in logging.getLogger(name).handlers:
                if isinstance(handler, logging.StreamHandler) and handler.formatter is not self._formatter:
                    self._changed.append((handler, handler.formatter))
                    handler.setFormatter(self._formatter)

    def undo(self) -> None:
        """Gives every handler its own formatter back."""
        for handler, formatter in self._changed:
            if handler.formatter is self._formatter:
                handler.setFormatter(formatter)
        self._changed.clear()
        if logging.lastResort is self._last_resort:
            logging.lastResort = self._before
