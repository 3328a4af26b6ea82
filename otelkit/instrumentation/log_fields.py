"""What is on every record of the logging module, what came by `extra`, and what is in structlog's events."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence

from otelkit.signals import exceptions

STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""What logging itself puts on a record, and what formatters add; everything else came by `extra`."""

EVENT_NAME = "event_name"
"""By `extra`: the record's event name, and no attribute."""
_OF_STRUCTLOG = ("_logger", "_name")
_NO_ATTRIBUTES = frozenset(
    {"event", EVENT_NAME, "level", "logger", "timestamp", "exc_info", "exception", "_record", "_from_structlog"}
)
_LONGEST_REPR = 4096
_DEEPEST = 10


def extra(record: logging.LogRecord) -> dict[str, object]:
    """What came by `extra`, encodable; but Celery's `data`, which holds a task's arguments and result."""
    hidden = "data" if record.name.startswith("celery.") else None
    return {
        key: encodable(value) for key, value in vars(record).items() if key not in STANDARD_FIELDS and key != hidden
    }


def structlog_event(record: logging.LogRecord) -> dict[str, object] | None:
    """The event of a record that structlog has wrapped for its own formatter (`wrap_for_formatter`)."""
    return record.msg if isinstance(record.msg, dict) and all(key in vars(record) for key in _OF_STRUCTLOG) else None


def of_structlog(event: Mapping[str, object]) -> tuple[str, str | None, dict[str, object]]:
    """Body, event name and attributes of an event of structlog's."""
    attributes = {
        str(key): encodable(value)
        for key, value in event.items()
        if key not in _NO_ATTRIBUTES and key not in _OF_STRUCTLOG
    }
    error, text = _exception(event.get("exc_info")), event.get("exception")
    if error is None and text is not None:
        error = sys.exc_info()[1]  # a processor has made its text already
    if error is not None:
        attributes |= exceptions.mentioned(error)
    elif isinstance(text, str):
        attributes["exception.stacktrace"] = text
    name = event.get(EVENT_NAME)
    return str(encodable(event.get("event", ""))), name if isinstance(name, str) else None, attributes


def _exception(exc_info: object) -> BaseException | None:
    """What `exc_info` says: an exception, logging's triple, or True for the one that is being handled."""
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1] if len(exc_info) > 1 else None
    elif exc_info is True:
        exc_info = sys.exc_info()[1]
    return exc_info if isinstance(exc_info, BaseException) else None


def encodable(value: object, depth: int = _DEEPEST) -> object:
    """The value if OTLP has a type for it, else its repr, cut at 4096 characters; also of what is nested too deeply."""
    if value is None or isinstance(value, (str, bool, int, float, bytes)):
        return value
    if depth and isinstance(value, Mapping):
        return {str(encodable(key, 0)): encodable(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, Sequence):
        return [encodable(item, depth - 1) for item in value]
    try:
        return repr(value)[:_LONGEST_REPR]
    except Exception:  # noqa: BLE001 - an object's own __repr__ may raise
        return f"<{type(value).__name__} without a repr>"
