"""Adds collections of metrics up: deltas are summed, cumulative points and gauges are replaced by newer ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)

from otelkit.testing.attributes import Attributes


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram has seen; `buckets` are the counts, one more than `bounds`."""

    count: int = 0
    sum: float = 0.0
    min: float | None = None
    max: float | None = None
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """The mean value; 0 where there is none."""
        return self.sum / self.count if self.count else 0.0

    def __add__(self, other: Distribution) -> Distribution:
        """Both together; without buckets where their bounds differ."""
        if not self.count or not other.count:
            return self if self.count else other
        same = self.bounds == other.bounds
        return Distribution(
            self.count + other.count,
            self.sum + other.sum,
            min((value for value in (self.min, other.min) if value is not None), default=None),
            max((value for value in (self.max, other.max) if value is not None), default=None),
            self.bounds if same else (),
            tuple(map(int.__add__, self.buckets, other.buckets)) if same else (),
        )


@dataclass(slots=True)
class Series:
    """One metric under one set of labels."""

    name: str
    kind: str
    attributes: Attributes
    value: float | Distribution


@dataclass(slots=True)
class Measured:
    """Every series by the scope, name and labels that it was recorded under."""

    series: dict[tuple[object, ...], Series] = field(default_factory=dict)

    def add(self, data: MetricsData) -> None:
        """Takes one collection in."""
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for found in _series(metric):
                        key = (scope.scope.name, found.name, found.kind, *sorted(found.attributes.items(), key=repr))
                        known = self.series.get(key)
                        if known is not None and _is_delta(metric):
                            found.value = known.value + found.value  # type: ignore[operator]
                        self.series[key] = found


def _series(metric: Metric) -> Iterator[Series]:
    data = metric.data
    kind = "gauge" if isinstance(data, Gauge) else "counter" if isinstance(data, Sum) else "histogram"
    for point in data.data_points:
        attributes = dict(point.attributes or {})
        if isinstance(point, NumberDataPoint):
            yield Series(metric.name, kind, attributes, point.value)
        elif isinstance(point, HistogramDataPoint):
            bounds, counts = tuple(point.explicit_bounds), tuple(point.bucket_counts)
            seen = Distribution(point.count, point.sum, point.min, point.max, bounds, counts)
            yield Series(metric.name, kind, attributes, seen)
        else:
            yield Series(metric.name, kind, attributes, Distribution(point.count, point.sum, point.min, point.max))


def _is_delta(metric: Metric) -> bool:
    data = metric.data
    return (
        isinstance(data, (Sum, Histogram, ExponentialHistogram))
        and data.aggregation_temporality is AggregationTemporality.DELTA
    )
