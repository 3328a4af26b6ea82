"""Points as they were sent become values at equal steps: rates of sums, percentiles and heat maps of histograms."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from otelkit.viewer.reading.asking import ms

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MOST_BOUNDS = 60
_LONGEST_GAP = 20  # steps over which a rate is drawn on


@dataclass(frozen=True)
class Point:
    """A data point; times are ns."""

    time_ns: int
    start_ns: int
    delta: bool
    value: float | None
    count: int | None
    sum: float | None
    bounds: list[float] | None
    counts: list[int] | None


Series = list[Point]
Span = tuple[int, int, int]
"""From, to and step, in ns."""


def numbers_over_time(every: Sequence[Series], span: Span, how: str) -> list[list[Any]]:
    """The values of a group of series: `rate` and `count` a second, added up; `sum` added up; `mean` averaged."""
    from_ns, to_ns, step_ns = span
    slots = (to_ns - from_ns) // step_ns + 1
    found: dict[int, list[float]] = defaultdict(list)
    for series in every:
        points = sorted(series, key=lambda point: point.time_ns)
        own = _rates(points, span, how) if how in ("rate", "count") else _lasts(points, span)
        for slot, value in own.items():
            if 0 <= slot < slots:
                found[slot].append(value)
    joined = (lambda values: sum(values) / len(values)) if how == "mean" else sum
    return [[ms(from_ns + slot * step_ns), joined(found[slot]) if slot in found else None] for slot in range(slots)]


def _lasts(points: Series, span: Span) -> dict[int, float]:
    return {(point.time_ns - span[0]) // span[2]: point.value for point in points if point.value is not None}


def _rates(points: Series, span: Span, how: str) -> dict[int, float]:
    """What came in a second, drawn on over the steps that lie between two points."""
    from_ns, _, step_ns = span
    found: dict[int, float] = {}
    for before, point in _pairs(points):
        increase = _increase(before, point, "value" if how == "rate" else "count")
        if increase is None:
            continue
        since_ns = before.time_ns if before is not None and not _reset(before, point) else point.start_ns
        since_ns = max(since_ns, point.time_ns - _LONGEST_GAP * step_ns)
        rate = increase / max((point.time_ns - since_ns) / 1e9, step_ns / 1e9 / 2)
        last = (point.time_ns - from_ns) // step_ns
        for slot in range(min((since_ns - from_ns) // step_ns + 1, last), last + 1):
            found[slot] = rate
    return found


def histogram_over_time(every: Sequence[Series], span: Span) -> tuple[dict[str, Any], dict[str, Any]]:
    """Percentiles and the heat map, of all series together."""
    from_ns, to_ns, step_ns = span
    slots: dict[int, dict[float, int]] = defaultdict(lambda: defaultdict(int))
    for series in every:
        for before, point in _pairs(sorted(series, key=lambda point: point.time_ns)):
            slot = (point.time_ns - from_ns) // step_ns
            if not 0 <= slot <= (to_ns - from_ns) // step_ns or not point.counts:
                continue
            bounds = [*(point.bounds or ()), float("inf")]
            known = before is not None and not point.delta and not _reset(before, point)
            old = before.counts if known and before is not None and before.bounds == point.bounds else None
            if old is None and not point.delta and point.start_ns < from_ns and before is None:
                continue  # what it counted before anybody looked
            for place, count in enumerate(point.counts):
                grown = count - (old[place] if old else 0)
                if grown > 0:
                    slots[slot][bounds[place]] += grown
    percentiles: dict[str, list[Any]] = {name: [] for name in _QUANTILES}
    for slot in sorted(slots):
        at = ms(from_ns + slot * step_ns)
        for name, quantile in _QUANTILES.items():
            percentiles[name].append([at, _percentile(slots[slot], quantile)])
    finite = sorted({bound for counts in slots.values() for bound in counts if bound != float("inf")})
    every_nth = -(-len(finite) // _MOST_BOUNDS) or 1
    bounds = finite[every_nth - 1 :: every_nth]
    if finite and bounds[-1:] != finite[-1:]:
        bounds.append(finite[-1])
    rows = []
    for slot in sorted(slots):
        row = [0] * (len(bounds) + 1)
        for bound, count in slots[slot].items():
            row[bisect.bisect_left(bounds, bound)] += count
        rows.append([ms(from_ns + slot * step_ns), row])
    return percentiles, {"bounds": bounds, "rows": rows}


def _percentile(counts: dict[float, int], quantile: float) -> float | None:
    """Within the bucket it is taken to grow evenly, as Prometheus does; beyond the last bound it is that bound."""
    rank = quantile * sum(counts.values())
    passed, lower = 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if passed + count >= rank:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - passed) / count
        passed, lower = passed + count, bound
    return None


def _pairs(points: Series) -> Iterator[tuple[Point | None, Point]]:
    before: Point | None = None
    for point in points:
        yield before, point
        before = point


def _reset(before: Point, point: Point) -> bool:
    """Whether a sum has begun anew: another start, or less than before."""
    if before.start_ns != point.start_ns:
        return True
    was, now = (before.count, point.count) if point.count is not None else (before.value, point.value)
    return was is not None and now is not None and now < was


def _increase(before: Point | None, point: Point, of: str) -> float | None:
    now = getattr(point, of)
    if now is None:
        return None
    if point.delta:
        return float(now)
    if before is None:
        return None
    was = 0 if _reset(before, point) else getattr(before, of)
    return None if was is None else float(now) - float(was)
