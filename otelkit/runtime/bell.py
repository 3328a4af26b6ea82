"""Wakes a thread, from anywhere."""

from __future__ import annotations

import contextlib
import threading


class Bell:
    """What `threading.Event` is to one waiting thread, but safe within a finalizer or a signal handler.

    Those may run in the middle of `ring` or of `wait`, of the same thread, and ring. An Event's methods are Python
    code under a lock: the second call would wait for the first one, which it has interrupted. A lock's own are not.
    (Those of a SimpleQueue are not either, but on Python 3.10 its `get` waits for ever where a short timeout has run
    out before it comes to wait: it then goes on with a negative one.)
    """

    def __init__(self) -> None:
        # Held by nobody in particular: whoever rings lets it go, and whoever waits takes it.
        self._silent = threading.Lock()
        self._silent.acquire()

    def ring(self) -> None:
        """Wakes who waits, or who waits next."""
        if self._silent.locked():
            with contextlib.suppress(RuntimeError):  # somebody else rang in between
                self._silent.release()

    def wait(self, timeout_s: float | None) -> None:
        """Waits until the bell is rung, or was since the last time, for `timeout_s` at most, or for ever at None."""
        self._silent.acquire(timeout=-1 if timeout_s is None else timeout_s)
