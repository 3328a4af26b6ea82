"""Encodes a collection of metrics (the SDK's MetricsData) as an OTLP request."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)

from otelkit.delivery.records import Attributes, Scope
from otelkit.delivery.wire import (
    pack_double,
    pack_fixed64,
    pack_sfixed64,
    packed_double,
    packed_fixed64,
    packed_varint,
    sized,
    utf8,
    varint,
    zigzag,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import Exemplar

_TIMES = struct.Struct("<cQcQ").pack
_COUNT_AND_SUM = struct.Struct("<cQcd").pack
_LEAST_AND_MOST = struct.Struct("<cdcd").pack

Point = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint


class Values(Protocol):
    """The encoder of attributes."""

    def fields(self, tag: bytes, attributes: Attributes | None, /) -> bytes: ...
    def of_point(self, tag: bytes, attributes: Attributes | None, /) -> bytes: ...


class Buckets(Protocol):
    """One side of an exponential histogram."""

    @property
    def offset(self) -> int: ...
    @property
    def bucket_counts(self) -> Sequence[int]: ...


def count_points(data: MetricsData) -> int:
    """How many data points a collection holds."""
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


class MetricsEncoder:
    """Encodes collections; a metric that cannot be encoded is left out and its points are counted."""

    def __init__(self, values: Values, scope: Callable[[Scope | None], bytes]) -> None:
        self._values = values
        self._scope = scope

    def request(self, resource: bytes, data: object) -> tuple[bytes, int]:
        """An ExportMetricsServiceRequest, and how many points could not be encoded."""
        assert isinstance(data, MetricsData)
        scopes = []
        failed = 0
        for collected in (scope for part in data.resource_metrics for scope in part.scope_metrics):
            parts = []
            for metric in collected.metrics:
                try:
                    parts.append(sized(b"\x12", self._metric(metric)))
                except Exception:  # noqa: BLE001 - one broken metric must not take the collection along
                    failed += len(metric.data.data_points)
            if parts:
                schema = sized(b"\x1a", utf8(collected.schema_url)) if collected.schema_url else b""
                scopes.append(sized(b"\x12", self._scope(collected.scope) + b"".join(parts) + schema))
        return (sized(b"\x0a", resource + b"".join(scopes)) if scopes else b""), failed

    def _metric(self, metric: Metric) -> bytes:
        content = sized(b"\x0a", utf8(metric.name))
        if metric.description:
            content += sized(b"\x12", utf8(metric.description))
        if metric.unit:
            content += sized(b"\x1a", utf8(metric.unit))
        data = metric.data
        if isinstance(data, Sum):
            points = self._points(data.data_points, self._number)
            monotonic = b"\x18\x01" if data.is_monotonic else b""
            return content + sized(b"\x3a", points + b"\x10" + varint(data.aggregation_temporality.value) + monotonic)
        if isinstance(data, Gauge):
            return content + sized(b"\x2a", self._points(data.data_points, self._number))
        if isinstance(data, Histogram):
            points = self._points(data.data_points, self._histogram)
            return content + sized(b"\x4a", points + b"\x10" + varint(data.aggregation_temporality.value))
        if isinstance(data, ExponentialHistogram):
            points = self._points(data.data_points, self._exponential)
            return content + sized(b"\x52", points + b"\x10" + varint(data.aggregation_temporality.value))
        raise TypeError(f"no OTLP form for {type(data).__name__}")

    @staticmethod
    def _points(points: Iterable[Point], encode: Callable[..., bytes]) -> bytes:
        return b"".join(sized(b"\x0a", encode(point)) for point in points)

    def _number(self, point: NumberDataPoint) -> bytes:
        value, exemplars = point.value, point.exemplars
        return b"".join((
            _times(point),
            b"\x31" + pack_sfixed64(value) if isinstance(value, int) else b"\x21" + pack_double(value),
            self._exemplars(b"\x2a", exemplars) if exemplars else b"",
            self._values.of_point(b"\x3a", point.attributes),
        ))  # fmt: skip

    def _histogram(self, point: HistogramDataPoint) -> bytes:
        exemplars = point.exemplars
        return b"".join((
            _times(point),
            _COUNT_AND_SUM(b"\x21", point.count, b"\x29", point.sum),
            packed_fixed64(b"\x32", point.bucket_counts),
            _bounds(tuple(point.explicit_bounds)),
            self._exemplars(b"\x42", exemplars) if exemplars else b"",
            self._values.of_point(b"\x4a", point.attributes),
            _LEAST_AND_MOST(b"\x59", point.min, b"\x61", point.max) if point.count else b"",
        ))  # fmt: skip

    def _exponential(self, point: ExponentialHistogramDataPoint) -> bytes:
        parts = [
            self._values.of_point(b"\x0a", point.attributes),
            _times(point),
            b"\x21" + pack_fixed64(point.count),
            b"\x29" + pack_double(point.sum),
            b"\x30" + zigzag(point.scale),
            b"\x39" + pack_fixed64(point.zero_count),
            _buckets(b"\x42", point.positive),
            _buckets(b"\x4a", point.negative),
            self._exemplars(b"\x5a", point.exemplars),
        ]
        if point.count:
            parts.append(b"\x61" + pack_double(point.min) + b"\x69" + pack_double(point.max))
        return b"".join(parts)

    def _exemplars(self, tag: bytes, exemplars: Iterable[Exemplar] | None) -> bytes:
        parts = []
        for exemplar in exemplars or ():
            value = exemplar.value
            content = b"\x11" + pack_fixed64(exemplar.time_unix_nano)
            content += b"\x31" + pack_sfixed64(value) if isinstance(value, int) else b"\x19" + pack_double(value)
            if exemplar.span_id:
                content += b"\x22\x08" + exemplar.span_id.to_bytes(8, "big")
            if exemplar.trace_id:
                content += b"\x2a\x10" + exemplar.trace_id.to_bytes(16, "big")
            parts.append(sized(tag, content + self._values.fields(b"\x3a", exemplar.filtered_attributes)))
        return b"".join(parts)


def _times(point: Point) -> bytes:
    if point.start_time_unix_nano:
        return _TIMES(b"\x11", point.start_time_unix_nano, b"\x19", point.time_unix_nano)
    return b"\x19" + pack_fixed64(point.time_unix_nano)


@functools.lru_cache(maxsize=64)
def _bounds(bounds: tuple[float, ...]) -> bytes:
    return packed_double(b"\x3a", bounds)


def _buckets(tag: bytes, buckets: Buckets) -> bytes:
    return sized(tag, b"\x08" + zigzag(buckets.offset) + packed_varint(b"\x12", buckets.bucket_counts))
