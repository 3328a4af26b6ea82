"""What otelkit says about itself: on the loggers `otelkit.*`, rarely, and never into its own export."""

from __future__ import annotations

import logging
import sys
import threading
import time

ROOT = logging.getLogger("otelkit")
_REPEAT_S = 60.0


class _LastResort(logging.StreamHandler):  # type: ignore[type-arg]
    """Prints to stderr where the application has configured no handler: uvicorn, say, leaves the root logger bare.

    The standard library's own last resort begins at WARNING and would swallow the line at start.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.stream = sys.stderr
            super().emit(record)


def configure(level: str) -> None:
    """Sets the level of otelkit's loggers, a name as in OTEL_LOG_LEVEL."""
    names = {"trace": "DEBUG", "warn": "WARNING", "fatal": "CRITICAL"}
    ROOT.setLevel(names.get(level, level.upper()))
    if not ROOT.handlers:
        ROOT.addHandler(_LastResort())


class Throttle:
    """Lets one message a minute through for each key, and says how many were held back since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
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
        self._lock = threading.Lock()
