"""The state of one series: what a measurement changes, and what a collection reads.

A measurement takes no lock: `cell.value += amount` is a load, an addition of two numbers and a store, and CPython
(3.10 to 3.13) hands the interpreter over only at calls and backward jumps, of which there is none in between. What is
called (bisect) is called before. A free-threaded build has no such rule and takes the cell's lock; nothing is called
within it, so that neither a signal's handler nor a finalizer can measure, and wait for ever, while its thread holds it.

A collection reads while measurements go on: a histogram's count is the sum of its buckets, so those two always agree;
its sum may be one measurement ahead or behind until the next collection.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable
from time import time_ns
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint
from opentelemetry.trace import Span as ApiSpan

from otelkit.delivery.records import Shared
from otelkit.engine import refusals
from otelkit.engine.context import SPAN_KEY, variable, with_span
from otelkit.engine.span import Span
from otelkit.engine.unsampled import UnsampledSpan
from otelkit.runtime.interpreter import FREE_THREADED

Number = int | float
Begun = Callable[[], bool]
_INFINITY = math.inf
_NUMBERS = (int, float)
_SAMPLED = 1


def nothing() -> bool:
    """For a series whose first measurement nobody waits for."""
    return True


class Exemplars:
    """The first measurement within a sampled trace that each slot saw since the last collection.

    One slot a bucket of a histogram, one for anything else. The first costs a look at the current span; until the
    next collection no other measurement of the slot pays anything. Each reader gets those that are newer than its
    own last collection.
    """

    __slots__ = ("recent", "slots")

    def __init__(self, size: int) -> None:
        self.slots: list[Exemplar | None] = [None] * size
        self.recent: list[Exemplar | None] = [None] * size

    def collect(self, since_ns: int) -> list[Exemplar]:
        """What is newer than `since_ns`; the slots are free again."""
        slots = self.slots
        for place, taken in enumerate(slots):
            if taken is not None:
                self.recent[place] = taken
                slots[place] = None
        return [found for found in self.recent if found is not None and found.time_unix_nano > since_ns]


class Cell:
    """One series of an instrument.

    `start_ns` is when it began, `live` whether it has had a measurement in this opening. `begun` is called at the
    first, and at later ones until it says True; `live` is None meanwhile. `routed` is the SDK's instrument where that
    one records (a view, a delta reader).
    """

    __slots__ = ("attributes", "begun", "exemplars", "live", "lock", "routed", "slots", "start_ns")

    def __init__(self, attributes: Shared, *, slots: int, exemplars: bool, routed: Any, begun: Begun) -> None:
        self.attributes = attributes
        self.slots = slots
        self.reset(exemplars=exemplars, routed=routed, begun=begun)

    def reset(self, *, exemplars: bool, routed: Any, begun: Begun) -> None:
        """Begins at zero: a new opening, or a forked child."""
        self.lock = threading.Lock() if FREE_THREADED else None
        self.start_ns = time_ns()
        self.live: bool | None = False
        self.routed = routed
        self.begun = begun
        self.exemplars = Exemplars(self.slots) if exemplars else None

    def begin(self) -> None:
        """Notes the first measurement, or one after it, as long as the system has no room for a thread."""
        self.live = None
        self.live = self.announce() or None

    def announce(self) -> bool:
        """Says that there is a measurement, until that has done what it is for."""
        if self.begun is not nothing and self.begun():
            self.begun = nothing
        return self.begun is nothing

    def changed(self) -> bool:
        """Whether it says anything else than when this was asked last."""
        raise NotImplementedError

    def point(self, now_ns: int, since_ns: int) -> NumberDataPoint | HistogramDataPoint:
        """What the series says at `now_ns`, with the exemplars that are newer than `since_ns`."""
        raise NotImplementedError


def _context(span: Any) -> Context | None:
    return None if span is None else with_span(span)


def _exemplar(exemplars: Exemplars, slot: int, amount: Number, span: Any) -> None:
    """Takes a measurement as the slot's exemplar if its span (default: the current one) is sampled."""
    if span is None:
        span = variable.get().get(SPAN_KEY)
        if span is None:
            return
    if type(span) is Span:
        if span.flags & _SAMPLED:
            exemplars.slots[slot] = Exemplar({}, amount, time_ns(), span.span_id, span.trace_id)
    elif type(span) is not UnsampledSpan and isinstance(span, ApiSpan):
        context = span.get_span_context()
        if context.is_valid and context.trace_flags.sampled:
            exemplars.slots[slot] = Exemplar({}, amount, time_ns(), context.span_id, context.trace_id)


class _ValueCell(Cell):
    """A series that is one number."""

    __slots__ = ("seen", "value")

    value: Number
    seen: Number | None

    def reset(self, *, exemplars: bool, routed: Any, begun: Begun) -> None:
        super().reset(exemplars=exemplars, routed=routed, begun=begun)
        self.value = 0
        self.seen = None

    def changed(self) -> bool:
        before, self.seen = self.seen, self.value
        return before != self.seen


class SumCell(_ValueCell):
    """A counter's or an up-down counter's series."""

    __slots__ = ("lowest",)

    def __init__(self, attributes: Shared, *, monotonic: bool, exemplars: bool, routed: Any, begun: Begun) -> None:
        super().__init__(attributes, slots=1, exemplars=exemplars, routed=routed, begun=begun)
        self.lowest = 0.0 if monotonic else -math.inf

    def add(self, amount: Number = 1, span: Any = None) -> None:
        """Adds; `span` is where the measurement was made, where that is not the current one."""
        if self.routed is not None:
            self.announce()
            self.routed.add(amount, self.attributes, _context(span))
            return
        if type(amount) not in _NUMBERS or not self.lowest <= amount < _INFINITY or amount == -_INFINITY:
            amount = checked(amount, self.lowest, "add")
            if amount is None:
                return
        if self.lock is None:
            self.value += amount
        else:
            with self.lock:
                self.value += amount
        if not self.live:
            self.begin()
        exemplars = self.exemplars
        if exemplars is not None and exemplars.slots[0] is None:
            _exemplar(exemplars, 0, amount, span)

    def point(self, now_ns: int, since_ns: int) -> NumberDataPoint:
        found = self.exemplars.collect(since_ns) if self.exemplars is not None else []
        return NumberDataPoint(self.attributes, self.start_ns, now_ns, self.value, found)  # type: ignore[arg-type]


class GaugeCell(_ValueCell):
    """A gauge's series: the last value."""

    __slots__ = ()

    def __init__(self, attributes: Shared, *, exemplars: bool, routed: Any, begun: Begun) -> None:
        super().__init__(attributes, slots=1, exemplars=exemplars, routed=routed, begun=begun)

    def set(self, amount: Number, span: Any = None) -> None:
        """Sets the value."""
        if self.routed is not None:
            self.announce()
            self.routed.set(amount, self.attributes, _context(span))
            return
        if type(amount) not in _NUMBERS or not -_INFINITY < amount < _INFINITY:
            amount = checked(amount, -_INFINITY, "set")
            if amount is None:
                return
        self.value = amount
        if not self.live:
            self.begin()
        exemplars = self.exemplars
        if exemplars is not None and exemplars.slots[0] is None:
            _exemplar(exemplars, 0, amount, span)

    def point(self, now_ns: int, since_ns: int) -> NumberDataPoint:
        found = self.exemplars.collect(since_ns) if self.exemplars is not None else []
        return NumberDataPoint(self.attributes, None, now_ns, self.value, found)  # type: ignore[arg-type]


class HistogramCell(Cell):
    """A histogram's series, with explicit boundaries."""

    __slots__ = ("bounds", "counts", "maximum", "minimum", "seen", "total")

    counts: list[int]
    seen: list[int] | None
    total: Number
    minimum: Number
    maximum: Number

    def __init__(
        self, attributes: Shared, *, bounds: tuple[float, ...], exemplars: bool, routed: Any, begun: Begun
    ) -> None:
        self.bounds = bounds
        super().__init__(attributes, slots=len(bounds) + 1, exemplars=exemplars, routed=routed, begun=begun)

    def reset(self, *, exemplars: bool, routed: Any, begun: Begun) -> None:
        super().reset(exemplars=exemplars, routed=routed, begun=begun)
        self.seen = None
        self.counts = [0] * self.slots
        self.total = 0
        self.minimum = _INFINITY
        self.maximum = -_INFINITY

    def record(self, amount: Number, span: Any = None) -> None:
        """Records a value; `span` is where it was measured, where that is not the current one."""
        if self.routed is not None:
            self.announce()
            self.routed.record(amount, self.attributes, _context(span))
            return
        if type(amount) not in _NUMBERS or not 0 <= amount < _INFINITY:
            amount = checked(amount, 0.0, "record")
            if amount is None:
                return
        slot = bisect_left(self.bounds, amount)
        if self.lock is None:
            self.counts[slot] += 1
            self.total += amount
            if amount < self.minimum:
                self.minimum = amount
            if amount > self.maximum:
                self.maximum = amount
        else:
            with self.lock:
                self.counts[slot] += 1
                self.total += amount
                if amount < self.minimum:
                    self.minimum = amount
                if amount > self.maximum:
                    self.maximum = amount
        if not self.live:
            self.begin()
        exemplars = self.exemplars
        if exemplars is not None and exemplars.slots[slot] is None:
            _exemplar(exemplars, slot, amount, span)

    def changed(self) -> bool:
        before, self.seen = self.seen, self.counts.copy()
        return before != self.seen

    def point(self, now_ns: int, since_ns: int) -> HistogramDataPoint:
        counts = tuple(self.counts)
        found = self.exemplars.collect(since_ns) if self.exemplars is not None else []
        return HistogramDataPoint(
            self.attributes,  # type: ignore[arg-type]
            self.start_ns,
            now_ns,
            sum(counts),
            self.total,
            counts,
            self.bounds,
            self.minimum,
            self.maximum,
            found,
        )


def checked(amount: Any, lowest: float, what: str) -> Any:
    """A number that is out of the ordinary: a subclass or another type becomes int or float, what cannot be counted
    is None and said once a minute.
    """
    if isinstance(amount, int):
        amount = int(amount)
    elif not isinstance(amount, float):
        try:
            amount = float(amount)
        except (TypeError, ValueError):
            return refusals.refuse(what, amount, "it is no number")
    if not math.isfinite(amount):
        return refusals.refuse(what, amount, "it is not finite")
    if amount < lowest:
        return refusals.refuse(what, amount, "it is negative")
    return amount
