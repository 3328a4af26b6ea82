"""Asks functions of the user's for values, in a thread for each: one that never returns holds up nothing else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from otelkit.runtime import fork, guard

T = TypeVar("T")

logger = logging.getLogger("otelkit.guard")

_PATIENCE_S = 1.0


class _Question:
    """One call, and its answer when it has returned. `asked` is what the call is for."""

    def __init__(self, place: str, asked: object, call: Callable[[], object]) -> None:
        self.asked = asked
        self.answered = threading.Event()
        self.answer: Any = None
        self._place = place
        self._call = call

    def put(self) -> None:
        with guard.guarded_callback(self._place):
            self.answer = self._call()
        self.answered.set()


class _Observer:
    """Keeps the questions that were not answered in time."""

    def __init__(self) -> None:
        self._pending: dict[int, _Question] = {}
        fork.on_child(self._after_fork)

    def _after_fork(self) -> None:
        """In a forked child: their threads are the parent's."""
        self._pending = {}

    def ask(self, place: str, asked: object, call: Callable[[], T]) -> T | None:
        """What `call`, which calls the user's function `asked`, returns; None where it fails, or is slow.

        One that takes longer than a second goes on by itself, and what it returns in the end is the answer to the next
        question. Outside of otelkit's worker thread (a reader's own, /metrics) it is called right here.
        """
        if threading.current_thread().name != "otelkit-worker":
            with guard.guarded_callback(place):
                return call()
            return None
        question = self._pending.pop(id(asked), None)
        if question is None:
            question = _Question(place, asked, call)
            try:
                threading.Thread(target=question.put, name="otelkit-observer", daemon=True).start()
            except RuntimeError:  # no thread can start while the interpreter ends
                question.put()
            if not question.answered.wait(_PATIENCE_S):
                guard.failures[place] += 1
                if guard.throttle.admit(f"{place} is slow") is not None:
                    name = getattr(asked, "__qualname__", repr(asked))
                    logger.warning("%s takes more than a second (%s): no value until it returns", place, name)
        if question.answered.is_set():
            return question.answer  # type: ignore[no-any-return]
        self._pending[id(asked)] = question
        return None


_observer = _Observer()
ask = _observer.ask
