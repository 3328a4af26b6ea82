"""What the application's own prometheus_client registry holds: as it is, or as the group of its processes says.

prometheus_client keeps a registry in each process's memory. Where the application has set PROMETHEUS_MULTIPROC_DIR, the
sums are prometheus_client's own. Where it has not, each process writes its families into the group's file beside its
metrics, and whoever is asked hands out the sums: counters and histograms added up, a gauge a process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client import Metric as Family

from otelkit.engine.sharing import BESIDE
from otelkit.runtime import guard

_SCOPE = InstrumentationScope(BESIDE)
_BEGAN_NS = time.time_ns()
_EVERYWHERE = ("process_", "python_")
"""What prometheus_client registers by itself, in every process that imports it."""
_CUMULATIVE = AggregationTemporality.CUMULATIVE


def families() -> list[Family]:
    """The families of this process's registry; none where the application has put nothing into it."""
    found: list[Family] = []
    with guard.guarded("the application's prometheus_client registry"):
        if _by_files():
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return list(registry.collect())
        found = list(REGISTRY.collect())
    return found if any(not family.name.startswith(_EVERYWHERE) for family in found) else []


def measured() -> Iterator[tuple[InstrumentationScope, Metric]]:
    """The families for the group's file; none where prometheus_client has files of its own for it."""
    if not _by_files():
        for family in families():
            yield from _metrics(family)


def apart(data: MetricsData | None) -> tuple[MetricsData | None, list[Metric]]:
    """otelkit's own of a collection, and the families of the group's registries that are in it."""
    if data is None:
        return None, []
    theirs: list[Metric] = []
    ours = []
    for resource in data.resource_metrics:
        theirs += (metric for each in resource.scope_metrics if each.scope.name == BESIDE for metric in each.metrics)
        own = [each for each in resource.scope_metrics if each.scope.name != BESIDE]
        ours.append(ResourceMetrics(resource.resource, own, resource.schema_url))
    return MetricsData(ours), theirs


def families_of(metrics: Iterable[Metric]) -> list[Family]:
    """The families that were written into the group's file, by their own names."""
    return [_family(metric) for metric in metrics]


def _by_files() -> bool:
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR") or os.environ.get("prometheus_multiproc_dir"))  # noqa: SIM112


# -- into the file: a counter is a sum, a summary a histogram without buckets, everything else a gauge


def _metrics(family: Family) -> Iterator[tuple[InstrumentationScope, Metric]]:
    now_ns = time.time_ns()
    data: Any
    if family.type in ("histogram", "summary"):
        data = Histogram(list(_distributions(family, now_ns)), _CUMULATIVE)
    else:
        counts = family.type == "counter"
        samples = [each for each in family.samples if not (counts and each.name.endswith("_created"))]
        points = [
            NumberDataPoint(dict(each.labels), _BEGAN_NS, now_ns, float(each.value), exemplars=[]) for each in samples
        ]
        data = Sum(points, _CUMULATIVE, is_monotonic=True) if counts else Gauge(points)
    if data.data_points:
        name = family.samples[0].name if isinstance(data, Gauge) else family.name
        yield _SCOPE, Metric(name, family.documentation, "", data)


def _distributions(family: Family, now_ns: int) -> Iterator[HistogramDataPoint]:
    series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        labels = {key: value for key, value in sample.labels.items() if key not in ("le", "quantile")}
        found = series.setdefault(tuple(sorted(labels.items())), {"buckets": {}, "sum": 0.0, "count": 0.0})
        if "le" in sample.labels:
            found["buckets"][float(sample.labels["le"])] = sample.value
        elif sample.name in (f"{family.name}_sum", f"{family.name}_count"):
            found[sample.name.rpartition("_")[2]] = sample.value
    for labels_, found in series.items():
        buckets: Mapping[float, float] = dict(sorted(found["buckets"].items()))
        upto = list(buckets.values()) or [found["count"]]
        counts = [int(each - before) for before, each in zip([0.0, *upto], upto, strict=False)]
        bounds = [bound for bound in buckets if bound != float("inf")]
        count, total = int(found["count"]), float(found["sum"])
        yield HistogramDataPoint(dict(labels_), _BEGAN_NS, now_ns, count, total, counts, bounds, 0.0, 0.0, exemplars=[])


# -- out of it


def _family(metric: Metric) -> Family:
    data: Any = metric.data
    if isinstance(data, Histogram):
        kind = "histogram" if any(point.explicit_bounds for point in data.data_points) else "summary"
        family = Family(metric.name, metric.description or "", kind)
        for point in data.data_points:
            labels = _labels(point.attributes)
            upto = 0
            for bound, count in zip((*map(str, point.explicit_bounds), "+Inf"), point.bucket_counts, strict=True):
                upto += count
                if kind == "histogram":
                    family.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, upto)
            family.add_sample(f"{metric.name}_count", labels, point.count)
            family.add_sample(f"{metric.name}_sum", labels, point.sum)
        return family
    kind = "counter" if isinstance(data, Sum) else "gauge"
    family = Family(metric.name, metric.description or "", kind)
    for point in data.data_points:
        name = f"{metric.name}_total" if kind == "counter" else metric.name
        family.add_sample(name, _labels(point.attributes), point.value)
    return family


def _labels(attributes: Mapping[str, Any] | None) -> dict[str, str]:
    return {key.replace(".", "_"): str(value) for key, value in (attributes or {}).items()}
