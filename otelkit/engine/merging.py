"""The series of many processes, added up to one of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelkit.delivery.records import Shared
from otelkit.engine.shared import Distribution, Entry, Kind, Numbers, Value, decoded
from otelkit.semconv import PROCESS_SLOT

_KEPT_IDENTITIES = 20_000
OF_THE_LIVING = (Kind.STATE, Kind.GAUGE)
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class Source(NamedTuple):
    """What one file says. `slot` is the worker slot of a living process; None for one that has ended."""

    entries: Iterable[Entry]
    slot: int | None


class _Identity(NamedTuple):
    scope: InstrumentationScope
    metric: tuple[Any, ...]  # name, description, unit, kind, bounds
    attributes: Shared


class Merger:
    """Adds series up and makes points of them; remembers what keys mean."""

    def __init__(self) -> None:
        self._identities: dict[bytes, _Identity] = {}
        self._slotted: dict[tuple[bytes, int], Shared] = {}

    def merge(
        self, sources: Iterable[Source], now_ns: int, *, since_ns: int = 0, slots: bool = True
    ) -> list[ScopeMetrics]:
        """One collection of them all, with the exemplars that are newer than `since_ns`; gauges carry their slot if
        `slots`.
        """
        metrics: dict[InstrumentationScope, dict[tuple[Any, ...], list[Any]]] = {}
        for key, kind, slot, numbers in _sums(sources):
            identity = self._identity(key)
            attributes = identity.attributes
            if slot is not None and slots:
                attributes = self._with_slot(key, slot, attributes)
            exemplars = [found for found in numbers.exemplars if found is not None and found.time_unix_nano > since_ns]
            points = metrics.setdefault(identity.scope, {}).setdefault(identity.metric, [])
            points.append(_point(kind, identity, attributes, numbers, exemplars, now_ns))
        return [
            ScopeMetrics(scope, [_metric(named, points) for named, points in found.items()], scope.schema_url or "")
            for scope, found in metrics.items()
        ]

    def _identity(self, key: bytes) -> _Identity:
        found = self._identities.get(key)
        if found is None:
            name, version, schema_url, of_scope, *metric, bounds, attributes = json.loads(key)
            found = _Identity(
                InstrumentationScope(name, version, schema_url, decoded(of_scope) or None),
                (*metric, tuple(bounds) if bounds is not None else None),
                Shared(decoded(attributes)),
            )
            if len(self._identities) >= _KEPT_IDENTITIES:
                self._identities.clear()
                self._slotted.clear()
            self._identities[key] = found
        return found

    def _with_slot(self, key: bytes, slot: int, attributes: Shared) -> Shared:
        found = self._slotted.get((key, slot))
        if found is None:
            found = self._slotted[key, slot] = Shared({**attributes, PROCESS_SLOT: slot})
        return found


def fold(sources: Iterable[Source]) -> Iterator[Entry]:
    """What stays of ended processes: their sums and histograms, added up, without exemplars."""
    for key, kind, _, numbers in _sums(sources):
        if kind not in OF_THE_LIVING:
            numbers.exemplars = [None] * len(numbers.exemplars)
            yield Entry(key, kind, numbers)


def _sums(sources: Iterable[Source]) -> Iterator[tuple[bytes, Kind, int | None, Numbers]]:
    """Each series once, with its sum; a gauge once a slot, and with it.

    Of a state that an ended process had, nothing is left: it counts as zero, so that where no other process has it the
    last that is known of it is that, and not what was in hand when the process was killed.
    """
    sums: dict[tuple[bytes, int | None], tuple[Kind, Numbers]] = {}
    for source in sources:
        for entry in source.entries:
            kind = entry.kind
            if kind is Kind.ENDED or (source.slot is None and kind is Kind.GAUGE):
                continue
            numbers = entry.numbers
            if source.slot is None and kind is Kind.STATE:
                numbers = Value(numbers.start_ns, 0)
            place = (entry.key, source.slot if kind is Kind.GAUGE else None)
            found = sums.get(place)
            if found is None:
                sums[place] = (kind, numbers)
            else:
                _add(found[1], numbers)
    for (key, slot), (kind, numbers) in sums.items():
        yield key, kind, slot, numbers


def _add(into: Any, other: Any) -> None:
    into.start_ns = min(into.start_ns, other.start_ns)
    if isinstance(into, Value):
        into.value += other.value
    else:
        into.total += other.total
        into.minimum = min(into.minimum, other.minimum)
        into.maximum = max(into.maximum, other.maximum)
        into.counts = [one + two for one, two in zip(into.counts, other.counts, strict=True)]
    into.exemplars = [_newer(one, two) for one, two in zip(into.exemplars, other.exemplars, strict=True)]


def _newer(one: Exemplar | None, two: Exemplar | None) -> Exemplar | None:
    if one is None or two is None:
        return one or two
    return max(one, two, key=lambda exemplar: exemplar.time_unix_nano)


def _point(
    kind: Kind, identity: _Identity, attributes: Shared, numbers: Numbers, exemplars: list[Exemplar], now_ns: int
) -> NumberDataPoint | HistogramDataPoint:
    if isinstance(numbers, Distribution):
        return HistogramDataPoint(
            attributes,  # type: ignore[arg-type]
            numbers.start_ns,
            now_ns,
            sum(numbers.counts),
            numbers.total,
            numbers.counts,
            identity.metric[-1],
            numbers.minimum,
            numbers.maximum,
            exemplars,
        )
    start_ns = None if kind is Kind.GAUGE else numbers.start_ns
    return NumberDataPoint(attributes, start_ns, now_ns, numbers.value, exemplars)  # type: ignore[arg-type]


def _metric(named: tuple[Any, ...], points: list[Any]) -> Metric:
    name, description, unit, kind, _ = named
    data: Any
    if kind == Kind.HISTOGRAM:
        data = Histogram(points, _CUMULATIVE)
    elif kind == Kind.GAUGE:
        data = Gauge(points)
    else:
        data = Sum(points, _CUMULATIVE, kind == Kind.SUM)
    return Metric(name, description, unit, data)
