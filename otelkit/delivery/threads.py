"""The threads of a pipeline: the process's first record starts them, a later one those that the system refused."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

logger = logging.getLogger("otelkit.delivery")

Job = Callable[[], object]

START_AGAIN_S = 1.0


class Threads:
    """Daemon threads for jobs with a name, started in this order.

    No thread starts while the interpreter ends, or where a limit of threads is reached. Then `complete` stays False,
    and a call of `start` tries again, once in START_AGAIN_S. `running` are those that were started.
    """

    def __init__(self, jobs: Iterable[tuple[str, Job]]) -> None:
        self.complete = False
        self.running: list[threading.Thread] = []
        self._missing = deque(jobs)
        self._lock = threading.RLock()  # a finalizer may record while this thread starts the others
        self._next_attempt_s = 0.0
        self._refusals = 0

    def start(self) -> bool:
        """Starts what is not running, if an attempt is due; whether all are running. Never waits for another thread
        that does this, never raises.
        """
        if not self.complete and time.monotonic() >= self._next_attempt_s and self._lock.acquire(blocking=False):
            try:
                refusal = self._attempt()
            finally:
                self._lock.release()
            self._refusals += refusal is not None
            if refusal is not None and self._refusals == 2:  # at the end of an interpreter there is no second one
                logger.warning("no thread can be started (%s): records wait, and it is tried again", refusal)
        return self.complete

    @contextlib.contextmanager
    def held_back(self, longest_s: float) -> Iterator[Sequence[Job]]:
        """The jobs that no thread does, after another attempt: the caller's to do within the block, in which nobody
        starts a thread for them. Empty where another caller has been at it for longer than `longest_s`.
        """
        if self.complete or not self._lock.acquire(timeout=max(0.0, longest_s)):
            yield ()
            return
        try:
            self._attempt()
            yield [job for _, job in self._missing]
        finally:
            self._lock.release()

    def _attempt(self) -> Exception | None:
        """Starts what is missing; what the system said where it refused."""
        self._next_attempt_s = time.monotonic() + START_AGAIN_S
        refusal = None
        while self._missing and refusal is None:
            name, job = self._missing.popleft()
            thread = threading.Thread(target=job, name=name, daemon=True)
            self.running.append(thread)  # before it is: an interrupt may come while we wait for it
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:
                self.running.remove(thread)
                self._missing.appendleft((name, job))
                refusal = error
        self.complete = not self._missing
        return refusal
