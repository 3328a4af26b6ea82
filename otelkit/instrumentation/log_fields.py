"""What is on every record of the logging module, and what came by `extra`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""What logging itself puts on a record, and what formatters add; everything else came by `extra`."""

_LONGEST_REPR = 4096
_DEEPEST = 10


def extra(record: logging.LogRecord) -> dict[str, object]:
    """What came by `extra`, encodable; but Celery's `data`, which holds a task's arguments and result."""
    hidden = "data" if record.name.startswith("celery.") else None
    return {
        key: encodable(value) for key, value in vars(record).items() if key not in STANDARD_FIELDS and key != hidden
    }


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
