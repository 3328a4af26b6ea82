"""What happens when in a soak: drawn at random, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.collector import FAILURES

STOPS = ("SIGTERM", "SIGKILL")

_WARM_UP_S = 60.0
# Times of a soak of ten minutes or more are of this unit; a shorter one has shorter times, so that all happens in it.
_UNIT_S = 10.0
_SHORTEST_UNIT_S = 1.0
_UP, _DOWN, _RUN = (1.0, 6.0), (0.5, 3.0), (1.0, 4.0)


class Event(NamedTuple):
    """A mode of the collector (`up` or one of FAILURES), or a signal (one of STOPS), so long after the start."""

    at_s: float
    what: str


def warm_up_s(seconds: float) -> float:
    """How long the beginning is, after which nothing may grow. It has an outage too, since an outage opens files."""
    return min(_WARM_UP_S, seconds / 6)


def schedule(seed: int, seconds: float) -> list[Event]:
    """All events of a soak in the order of their time. At the end the collector is up."""
    drawn = random.Random(seed)
    warm = warm_up_s(seconds)
    events = [Event(warm / 4, FAILURES[0]), Event(warm / 2, "up")]
    unit = min(_UNIT_S, max(_SHORTEST_UNIT_S, seconds / 60))

    failures, at = _in_turn(drawn, FAILURES), warm
    while (at := at + unit * drawn.uniform(*_UP)) < seconds:
        events.append(Event(at, next(failures)))
        at += unit * drawn.uniform(*_DOWN)
        events.append(Event(min(at, seconds), "up"))

    stops, at = _in_turn(drawn, STOPS), warm
    while (at := at + unit * drawn.uniform(*_RUN)) < seconds:
        events.append(Event(at, next(stops)))
    return sorted(events)


def _in_turn(drawn: random.Random, words: Sequence[str]) -> Iterator[str]:
    """The words in random order, each once before one comes again: a short soak has them all."""
    while True:
        yield from drawn.sample(words, len(words))
