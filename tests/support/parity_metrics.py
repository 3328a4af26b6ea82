"""The engine's meter provider and the SDK's own beside it, and what their collections say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource

from otelkit.engine.metering import Metering, MeterProvider
from otelkit.engine.seams import ForklessMeterProvider

RESOURCE = Resource({"service.name": "parity"})


def engine(*readers: MetricReader, lean: bool = True, views: Sequence[View] = ()) -> MeterProvider:
    """A provider of the engine's."""
    provider = MeterProvider()
    inner = ForklessMeterProvider(resource=RESOURCE, shutdown_on_exit=False, views=views)
    provider.open(Metering(resource=RESOURCE, provider=inner, readers=readers, views=views, lean=lean, exemplars=True))
    return provider


def of_the_sdk(reader: MetricReader, views: Sequence[View] = ()) -> sdk.MeterProvider:
    """The SDK's own."""
    return sdk.MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False, views=views)


def comparable(data: MetricsData | None) -> Any:
    """What a collection says, without times and exemplars, in an order of its own."""
    found = []
    for resource in data.resource_metrics if data is not None else ():
        assert resource.resource.attributes == RESOURCE.attributes
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points = [_point(point) for point in metric.data.data_points]
                how = (
                    getattr(metric.data, "is_monotonic", None),
                    getattr(metric.data, "aggregation_temporality", None),
                )
                identity = (scope.scope.name, scope.scope.version, scope.scope.schema_url, metric.name)
                about = (metric.unit, metric.description, type(metric.data).__name__, how)
                found.append((identity, about, sorted(points, key=repr)))
    return sorted(found, key=repr)


def _point(point: Any) -> Any:
    assert point.time_unix_nano > 1_600_000_000_000_000_000
    values = {
        name: getattr(point, name)
        for name in (
            "value",
            "count",
            "sum",
            "bucket_counts",
            "explicit_bounds",
            "min",
            "max",
            "scale",
            "zero_count",
            "positive",
            "negative",
        )
        if hasattr(point, name)
    }
    # The SDK keeps a bool that was measured as the smallest or largest value; the engine makes it the int that it is.
    numbers = {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}
    # The SDK adds up what came between two collections first.
    numbers |= {name: float(f"{numbers[name]:.12g}") for name in ("value", "sum") if type(numbers.get(name)) is float}
    # OTLP has doubles for them; which of 0 and 0.0 came first the engine and the SDK see differently.
    numbers |= {name: float(numbers[name]) for name in ("min", "max") if name in numbers}
    return [_typed(dict(point.attributes)), _typed(numbers)]


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _typed(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [_typed(item) for item in value]
    return (type(value).__name__, repr(value))


def only(data: MetricsData | None) -> Any:
    """The one point of a collection."""
    assert data is not None
    ((scope,),) = [resource.scope_metrics for resource in data.resource_metrics]
    ((point,),) = [metric.data.data_points for metric in scope.metrics]
    return point
