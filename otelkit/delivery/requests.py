"""What the worker is asked by threads that wait for it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class FlushRequest:
    """Have everything encoded: `drained` is set when that is done; `final` says that it is the last time."""

    drained: threading.Event
    final: bool
    last_sequence: int = 0
    elsewhere: int = 0


class FlushRequests(deque[FlushRequest]):
    """Those that wait, oldest first. Appending and popping is atomic."""

    @property
    def at_the_end(self) -> bool:
        """Whether the process ends: only the worker pops, and asks."""
        return bool(self) and self[0].final
