"""Makes instruments from the table of metrics, so that name, unit, description and buckets stand in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation, UpDownCounter

from otelkit.semconv import Metric

Callback = Callable[[CallbackOptions], Iterable[Observation]]


def counter(meter: Meter, metric: Metric) -> Counter:
    """The counter that the table describes."""
    return meter.create_counter(metric.name, metric.unit, metric.description)


def up_down_counter(meter: Meter, metric: Metric) -> UpDownCounter:
    """The up-down counter that the table describes."""
    return meter.create_up_down_counter(metric.name, metric.unit, metric.description)


def histogram(meter: Meter, metric: Metric) -> Histogram:
    """The histogram that the table describes, with its buckets as the advisory boundaries."""
    return meter.create_histogram(
        metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
    )


def observe(meter: Meter, metric: Metric, callbacks: Sequence[Callback]) -> None:
    """Registers callbacks for one of the table's observable instruments."""
    create = {
        "observable_counter": meter.create_observable_counter,
        "observable_updowncounter": meter.create_observable_up_down_counter,
        "observable_gauge": meter.create_observable_gauge,
    }[metric.kind]
    create(metric.name, callbacks, metric.unit, metric.description)
