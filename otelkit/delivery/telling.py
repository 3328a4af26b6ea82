"""When a process tells how its telemetry is: at its first record, each minute, and at its end (docs/delivery.md)."""

from __future__ import annotations

import time
from collections.abc import Callable

from otelkit.delivery.records import LogRecord
from otelkit.runtime import guard

STATUS_EVENT = "otelkit.status"
_EACH_S = 60.0


class Telling:
    """Puts what `tell` returns into the queue of log records; nothing while `tell` is None.

    The worker's alone: whoever emits never waits for it.
    """

    def __init__(self, put: Callable[[LogRecord], None]) -> None:
        self.tell: Callable[[bool], LogRecord] | None = None
        self._put = put
        self._due = 0.0

    def tick(self) -> None:
        """Tells where the last time is a minute ago, or there was none."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _EACH_S
            self.now(ends=False)

    def now(self, *, ends: bool) -> None:
        """Tells; `ends` says that it is the last time: what came later would be too late for the last batch."""
        tell = self.tell
        if ends:
            self.tell = None
        if tell is not None:
            with guard.guarded("the telling of the telemetry's state"):
                self._put(tell(ends))
