"""Keeps failures of telemetry away from the application: counted, logged at most once a minute, and swallowed."""

from __future__ import annotations

import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import ParamSpec

from otelkit.runtime.selflog import Throttle

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("otelkit.guard")
failures: Counter[str] = Counter()
"""How often each guarded place failed; `otelkit.status()` shows it."""
throttle = Throttle()


def report(place: str) -> None:
    """Counts the exception that is being handled, and logs it at most once a minute a place."""
    failures[place] += 1
    held_back = throttle.admit(place)
    if held_back is not None:
        more = f" ({held_back} more since the last message)" if held_back else ""
        logger.warning("%s failed; the application goes on without it%s", place, more, exc_info=True)


class guarded:  # noqa: N801 - used as contextlib's are
    """Swallows Exception, never BaseException: KeyboardInterrupt and CancelledError pass through.

    A class, which takes a third of the time of a generator: an application's span processors are called within it.
    """

    __slots__ = ("_place",)

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> Any:
        if isinstance(error, Exception):
            report(self._place)
            return True
        return None


@contextmanager
def guarded_callback(place: str) -> Iterator[None]:
    """The same around a function of the user's that a thread of otelkit's own calls: there nothing passes through.

    SystemExit would end that thread without a word, and all telemetry with it; Ctrl-C comes in the main thread alone.
    """
    try:
        yield
    except Exception:  # noqa: BLE001 - this is the place that swallows
        report(place)
    except BaseException:
        if not threading.current_thread().name.startswith("otelkit-"):
            raise
        report(place)


def guard(place: str) -> Callable[[Callable[P, R]], Callable[P, R | None]]:
    """The same as a decorator; the function returns None where it failed."""

    def decorate(function: Callable[P, R]) -> Callable[P, R | None]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R | None:
            try:
                return function(*args, **kwargs)
            except Exception:  # noqa: BLE001 - this is the place that swallows
                report(place)
                return None

        return wrapper

    return decorate
