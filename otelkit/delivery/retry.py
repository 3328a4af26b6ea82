"""When to try again: jittered exponential pauses, and what Retry-After asks for."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
LONGEST_RETRY_AFTER_S = 300.0
"""A server that asks for more is asked again after this: a wrong clock there must not silence us here for a day."""


class Backoff:
    """The pauses after failures in a row: 1 s doubling to 30 s, each cut by up to a half at random (full herds never
    form).
    """

    def __init__(self) -> None:
        self._failures = 0

    def after_failure(self, retry_after_s: float | None = None) -> float:
        """The pause before the next attempt, in seconds; a server's own wish wins, from 0.5 s to the cap: at
        `Retry-After: 0` one signal would keep the sender and the server busy without end.
        """
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        if retry_after_s is not None:
            return min(max(retry_after_s, FIRST_PAUSE_S / 2), LONGEST_RETRY_AFTER_S)
        return pause * random.uniform(0.5, 1.0)

    def after_success(self) -> None:
        """Begins anew."""
        self._failures = 0


def retry_after_s(header: str | None, *, now_s: float | None = None) -> float | None:
    """The seconds that a Retry-After header asks for, given as seconds or as a date (RFC 9110, 10.2.3); None if
    unreadable.
    """
    if header is None:
        return None
    content = header.strip()
    if content.isascii() and content.isdigit():
        return float(content[:12])
    try:
        moment = parsedate_to_datetime(content).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return max(0.0, moment - (time.time() if now_s is None else now_s))
