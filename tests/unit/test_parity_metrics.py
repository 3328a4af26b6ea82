"""Metrics over the engine and over the SDK: one program, the same points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

from tests.support.examples import examples
from tests.support.parity_metrics import RESOURCE, comparable, engine, of_the_sdk, only

KINDS = ("counter", "up_down_counter", "histogram", "gauge")
MEASURE = {"counter": "add", "up_down_counter": "add", "histogram": "record", "gauge": "set"}

VALUES = st.one_of(
    st.sampled_from(["a", "b", ""]),
    st.sampled_from([0, 1, 1.0, True, False, None, b"a"]),
    st.lists(st.sampled_from([1, True, "a"]), max_size=2),
    st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from([1, True, "a"]), max_size=2),
)
ATTRIBUTES = st.one_of(st.none(), st.dictionaries(st.sampled_from(["k", "l", "m"]), VALUES, max_size=3))
AMOUNTS = st.one_of(
    st.integers(-2, 12_000),
    st.floats(-1, 12_000, allow_nan=False),
    st.sampled_from([0, 5, 5.0, True, math.nan, math.inf, -math.inf, -1]),
)


@dataclass(frozen=True)
class Measurement:
    kind: Literal["counter", "up_down_counter", "histogram", "gauge"]
    amount: Any
    attributes: dict[str, Any] | None


@dataclass(frozen=True)
class Collection:
    pass


STEPS = st.lists(
    st.one_of(
        st.builds(Measurement, st.sampled_from(KINDS), AMOUNTS, ATTRIBUTES),
        st.just(Collection()),
    ),
    max_size=25,
)


def run(provider: Any, reader: InMemoryMetricReader, steps: Sequence[Any]) -> list[Any]:
    """What each collection said."""
    meter = provider.get_meter("shop", "1", "https://example.org/schema")
    instruments = {
        "counter": meter.create_counter("a.counter", "{thing}", "things"),
        "up_down_counter": meter.create_up_down_counter("an.updown"),
        "histogram": meter.create_histogram("a.histogram", "s"),
        "gauge": meter.create_gauge("a.gauge", "K", "warmth"),
    }
    said = []
    for step in [*steps, Collection()]:
        if isinstance(step, Collection):
            said.append(comparable(reader.get_metrics_data()))
        else:
            getattr(instruments[step.kind], MEASURE[step.kind])(step.amount, step.attributes)
    return said


@given(STEPS)
@settings(max_examples=examples(150), deadline=None)
def test_the_engine_says_what_the_sdk_says(steps: list[Any]) -> None:
    """Sums, counts, buckets, smallest and largest; one series for equal attributes of equal types; what is no
    measurement (negative, not finite) counts nowhere.
    """
    ours, theirs = InMemoryMetricReader(), InMemoryMetricReader()
    assert run(engine(ours), ours, steps) == run(of_the_sdk(theirs), theirs, steps)


@given(STEPS, st.sampled_from(["delta", "exponential"]))
@settings(max_examples=40, deadline=None)
def test_a_reader_that_wants_more_gets_it_from_the_sdk(steps: list[Any], wants: str) -> None:
    """Delta temporality, exponential histograms."""

    def reader() -> InMemoryMetricReader:
        if wants == "delta":
            return InMemoryMetricReader(
                preferred_temporality=dict.fromkeys((sdk.Counter, sdk.Histogram), AggregationTemporality.DELTA)
            )
        return InMemoryMetricReader(preferred_aggregation={sdk.Histogram: ExponentialBucketHistogramAggregation()})

    ours, theirs = reader(), reader()
    assert run(engine(ours), ours, steps) == run(of_the_sdk(theirs), theirs, steps)


@given(
    STEPS,
    st.sampled_from(
        [
            [View(instrument_name="a.histogram", aggregation=ExplicitBucketHistogramAggregation([1.0, 2.0]))],
            [View(instrument_type=sdk.Counter, attribute_keys={"k"})],
            [View(instrument_name="a.*", name=None, attribute_keys={"l"})],
            [View(instrument_name="a.gauge", aggregation=DropAggregation())],
            [View(instrument_name="a.counter", name="renamed", description="anew")],
            [View(instrument_name="an.updown", name="one"), View(instrument_name="an.updown", name="two")],
        ]
    ),
)
@settings(max_examples=examples(60), deadline=None)
def test_views_hold(steps: list[Any], views: list[View]) -> None:
    """They drop, rename, filter attributes and choose buckets; instruments that none matches stay the engine's."""
    ours, theirs = InMemoryMetricReader(), InMemoryMetricReader()
    assert run(engine(ours, views=views), ours, steps) == run(of_the_sdk(theirs, views), theirs, steps)


def test_observable_instruments_stand_beside_the_engines_in_one_scope() -> None:
    """One scope in the collection, whoever recorded."""

    def read(options: CallbackOptions) -> list[Observation]:
        return [Observation(7, {"k": "a"}), Observation(8, {"k": "b"})]

    def program(provider: Any, reader: InMemoryMetricReader) -> Any:
        meter = provider.get_meter("shop")
        meter.create_observable_counter("observed", [read])
        meter.create_observable_gauge("observed.gauge", [read])
        meter.create_observable_up_down_counter("observed.updown", [read])
        meter.create_counter("counted").add(1)
        data = reader.get_metrics_data()
        assert data is not None
        assert len(data.resource_metrics[0].scope_metrics) == 1
        return comparable(data)

    ours, theirs = InMemoryMetricReader(), InMemoryMetricReader()
    assert program(engine(ours), ours) == program(of_the_sdk(theirs), theirs)


def test_two_readers_collect_on_their_own() -> None:
    """Each sees the whole sums; a gauge stays what it was."""
    one, two = InMemoryMetricReader(), InMemoryMetricReader()
    provider = engine(one)
    provider.add_metric_reader(two)
    meter = provider.get_meter("shop")
    counter, gauge = meter.create_counter("c"), meter.create_gauge("g")
    counter.add(2)
    gauge.set(5)
    first = comparable(one.get_metrics_data())
    assert first == comparable(two.get_metrics_data()) == comparable(one.get_metrics_data())
    provider.remove_metric_reader(two)
    counter.add(1)
    assert comparable(one.get_metrics_data()) != first


def test_a_later_reader_with_other_wishes_turns_every_instrument_over_to_the_sdk() -> None:
    """From then on its deltas are right, and the others' sums begin anew with a new start time."""
    plain = InMemoryMetricReader()
    delta = InMemoryMetricReader(preferred_temporality={sdk.Counter: AggregationTemporality.DELTA})
    provider = engine(plain)
    counter = provider.get_meter("shop").create_counter("c")
    counter.add(5)
    before = plain.get_metrics_data()
    provider.add_metric_reader(delta)
    counter.add(2)
    counter.add(1)
    after, first = plain.get_metrics_data(), delta.get_metrics_data()
    counter.add(4)
    second = delta.get_metrics_data()
    assert [only(data).value for data in (before, after, first, second)] == [5, 3, 3, 4]
    assert only(after).start_time_unix_nano > only(before).start_time_unix_nano


@pytest.mark.parametrize("create", ["create_counter", "create_histogram", "create_up_down_counter", "create_gauge"])
@pytest.mark.parametrize("name", ["", "1st", "an ä", "x" * 300])
def test_a_name_that_is_not_allowed_is_refused_as_the_sdk_refuses_it(create: str, name: str) -> None:
    """At the creation, where the developer sees it."""
    for provider in (engine(), sdk.MeterProvider(resource=RESOURCE, shutdown_on_exit=False)):
        with pytest.raises(Exception, match="Expected ASCII string"):
            getattr(provider.get_meter("shop"), create)(name)
