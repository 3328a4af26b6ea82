"""Writes this process's series into its file (shared.py), in place."""

from __future__ import annotations

import json
import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelkit.delivery.records import Shared
from otelkit.engine.shared import (
    ENTRY,
    EXEMPLAR,
    HEADER,
    HEADER_BYTES,
    HISTOGRAM,
    MAGIC,
    NUMBER,
    Kind,
    as_json,
    body_size,
    split,
)

MAX_BYTES = 8 << 20
_FIRST_BYTES = 64 << 10


class SeriesFile:
    """Writes this process's series; not thread-safe.

    Raises OSError where the disk has no room for the file.
    """

    def __init__(self, fd: int, slot: int) -> None:
        self._fd = fd
        self._used = HEADER_BYTES
        self._sequence = 0
        self._slot = slot
        self._map = self._mapped(_FIRST_BYTES)
        self._families: dict[tuple[object, ...], _Family] = {}
        self.full = False
        self._finish()

    def _mapped(self, size: int) -> mmap.mmap:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, 0, size)  # a full disk shows here, and not as SIGBUS
        else:
            os.ftruncate(self._fd, size)
        return mmap.mmap(self._fd, size)

    def write(self, metrics: Iterable[tuple[InstrumentationScope, Metric, bool]]) -> list[tuple[Any, Metric]]:
        """Writes what these metrics say; the flag marks a sum that says how the process is. Returns what has no place
        here: delta temporality, exponential histograms, what is beyond the file's most bytes.
        """
        left: list[tuple[Any, Metric]] = []
        self._sequence += 1
        self._head()
        try:
            for scope, metric, state in metrics:
                rest = self._write(scope, metric, state)
                if rest is not None:
                    left.append((scope, rest))
        finally:
            self._finish()
        return left

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return len(self._map)

    def close(self) -> None:
        """Lets go of the mapped memory; the file stays."""
        self._map.close()

    def _head(self) -> None:
        HEADER.pack_into(self._map, 0, MAGIC, self._sequence, self._used, self._slot)

    def _finish(self) -> None:
        self._sequence += self._sequence & 1
        self._head()

    def _write(self, scope: InstrumentationScope, metric: Metric, state: bool) -> Metric | None:
        data: Any = metric.data
        kind = _kind(data, state)
        if kind is None:
            return metric
        bounds = tuple(data.data_points[0].explicit_bounds) if kind is Kind.HISTOGRAM else None
        place = (scope.name, scope.version, scope.schema_url, metric.name, metric.unit, kind, bounds)
        family = self._families.get(place)
        if family is None:
            family = self._families[place] = _Family(scope, metric, kind, bounds)
        unplaced = []
        for point in data.data_points:
            at = family.find(point.attributes)
            if at is None:
                at = self._place(family, point)
            if at is None:
                unplaced.append(point)
            elif kind is Kind.HISTOGRAM:
                self._put_histogram(at, point)
            else:
                self._put_number(at, point)
        if not unplaced:
            return None
        return Metric(metric.name, metric.description, metric.unit, _replaced(data, unplaced))

    def _place(self, family: _Family, point: Any) -> int | None:
        """Makes room for a series."""
        try:
            key = family.key(point.attributes)
        except (TypeError, ValueError, RecursionError):  # attributes that JSON cannot hold
            return None
        at = family.places.get(key)
        if at is None:
            slots = len(point.bucket_counts) if family.kind is Kind.HISTOGRAM else 0
            padded = key.ljust(-(-len(key) // 8) * 8)
            size = ENTRY.size + len(padded) + body_size(family.kind, slots)
            if not self._grow(self._used + size):
                return None
            start = self._used
            ENTRY.pack_into(self._map, start, size, family.kind, slots, len(key))
            at = start + ENTRY.size + len(padded)
            self._map[start + ENTRY.size : at] = padded
            self._map[at : start + size] = bytes(start + size - at)
            self._used += size
            family.places[key] = at
        family.remember(point.attributes, at)
        return at

    def _grow(self, size: int) -> bool:
        if size <= len(self._map):
            return True
        if size > MAX_BYTES:
            self.full = True
            return False
        try:
            grown = self._mapped(min(MAX_BYTES, max(size, 2 * len(self._map))))
        except OSError:
            self.full = True
            return False
        self._map.close()
        self._map = grown
        return True

    def _put_number(self, at: int, point: NumberDataPoint) -> None:
        NUMBER.pack_into(self._map, at, point.start_time_unix_nano or 0, *split(point.value))
        for exemplar in point.exemplars or ():
            self._put_exemplar(at + NUMBER.size, exemplar)

    def _put_histogram(self, at: int, point: HistogramDataPoint) -> None:
        counts = point.bucket_counts
        start_ns = point.start_time_unix_nano or 0
        HISTOGRAM.pack_into(self._map, at, start_ns, point.sum, point.min, point.max)
        at += HISTOGRAM.size
        struct.pack_into(f"<{len(counts)}Q", self._map, at, *counts)
        at += 8 * len(counts)
        for exemplar in point.exemplars or ():
            place = bisect_left(point.explicit_bounds, exemplar.value)
            self._put_exemplar(at + place * EXEMPLAR.size, exemplar)

    def _put_exemplar(self, at: int, exemplar: Exemplar) -> None:
        trace = (exemplar.trace_id or 0).to_bytes(16, "big")
        span = (exemplar.span_id or 0).to_bytes(8, "big")
        EXEMPLAR.pack_into(self._map, at, exemplar.time_unix_nano, *split(exemplar.value), trace, span)


class _Family:
    """The series of one metric, and where they stand."""

    def __init__(
        self, scope: InstrumentationScope, metric: Metric, kind: Kind, bounds: tuple[float, ...] | None
    ) -> None:
        self.kind = kind
        self._named = (
            scope.name,
            scope.version,
            scope.schema_url,
            dict(scope.attributes or {}),
            metric.name,
            metric.description,
            metric.unit,
            kind,
            bounds,
        )
        self.places: dict[bytes, int] = {}
        # The attributes of the engine's cells are one object a series; held here, so that their ids stay theirs.
        self._by_id: dict[int, tuple[Shared, int]] = {}

    def find(self, attributes: object) -> int | None:
        found = self._by_id.get(id(attributes))
        return found[1] if found is not None else None

    def remember(self, attributes: object, at: int) -> None:
        if type(attributes) is Shared:
            self._by_id[id(attributes)] = (attributes, at)

    def key(self, attributes: Mapping[str, Any] | None) -> bytes:
        return json.dumps(
            (*self._named, dict(attributes or {})), sort_keys=True, separators=(",", ":"), default=as_json
        ).encode()


def _kind(data: Any, state: bool) -> Kind | None:
    if isinstance(data, Gauge):
        return Kind.GAUGE
    if data.aggregation_temporality is not AggregationTemporality.CUMULATIVE:
        return None
    if isinstance(data, Sum):
        return Kind.SUM if data.is_monotonic else Kind.STATE if state else Kind.TALLY
    return Kind.HISTOGRAM if isinstance(data, Histogram) else None


def _replaced(data: Any, points: list[Any]) -> Any:
    if isinstance(data, Gauge):
        return Gauge(points)
    if isinstance(data, Sum):
        return Sum(points, data.aggregation_temporality, data.is_monotonic)
    return Histogram(points, data.aggregation_temporality)
