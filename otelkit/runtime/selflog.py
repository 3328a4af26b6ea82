"""What otelkit says about itself: on the loggers `otelkit.*`, rarely, and never into its own export."""

from __future__ import annotations

import logging
import sys
import threading
import time

ROOT = logging.getLogger("otelkit")
_REPEAT_S = 60.0


class _LastResort(logging.StreamHandler):  # type: ignore[type-arg]
    """Prints to stderr where the application handles no such record: uvicorn, say, leaves the root logger bare.

    The standard library's own last resort prints neither level nor logger, begins at WARNING, and would swallow the
    line at start.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(_PLAIN)

    def emit(self, record: logging.LogRecord) -> None:
        if not self._handled_by_others(record):
            self.stream = sys.stderr
            super().emit(record)

    def _handled_by_others(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


_PLAIN = logging.Formatter("%(levelname)s %(name)s: %(message)s")
# From the import on: what is said before `bootstrap` needs a level and a name as well.
_handler = _LastResort()
ROOT.addHandler(_handler)


def configure(level: str, formatter: logging.Formatter | None = None) -> None:
    """Sets the level of otelkit's loggers, a name as in OTEL_LOG_LEVEL, and how its lines look where the application
    has no handler for them.
    """
    names = {"trace": "DEBUG", "warn": "WARNING", "fatal": "CRITICAL"}
    ROOT.setLevel(names.get(level, level.upper()))
    _handler.setFormatter(formatter or _PLAIN)


class Throttle:
    """Lets one message a minute through for each key, and says how many were held back since."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._said: dict[str, tuple[float, int]] = {}

    def admit(self, key: str) -> int | None:
        """None: stay silent. A number: speak, so many were held back since the last time."""
        now = time.monotonic()
        with self._lock:
            said_at, held_back = self._said.get(key, (-_REPEAT_S, 0))
            if now - said_at < _REPEAT_S:
                self._said[key] = (said_at, held_back + 1)
                return None
            self._said[key] = (now, 0)
            return held_back

    def reset_after_fork(self) -> None:
        """In a forked child: the parent's lock may be held by a thread that is not here."""
        self._lock = threading.RLock()
