"""Wakes a thread, from anywhere."""

from __future__ import annotations

import contextlib
import queue


class Bell:
    """What `threading.Event` is to one waiting thread, but safe within a finalizer or a signal handler.

    Those may run in the middle of `ring` or of `wait`, of the same thread, and ring. An Event's methods are Python
    code under a lock: the second call would wait for the first one, which it has interrupted. Those of a SimpleQueue
    are not.
    """

    def __init__(self) -> None:
        self._rung: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Wakes who waits, or who waits next."""
        if self._rung.empty():
            self._rung.put(None)

    def wait(self, timeout_s: float) -> None:
        """Waits until the bell is rung, or was since the last time, for `timeout_s` at most."""
        with contextlib.suppress(queue.Empty):
            self._rung.get(timeout=timeout_s)
