"""The engine's cells: right under threads, over openings, within the limit, and with exemplars."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otelkit.engine import cells as engine_cells
from otelkit.engine.context import variable, with_span
from otelkit.engine.metering import Metering, MeterProvider
from otelkit.engine.seams import ForklessMeterProvider
from otelkit.engine.series import LIMIT
from otelkit.runtime.interpreter import FREE_THREADED

RESOURCE = Resource({"service.name": "test"})
SAMPLED = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)))
UNSAMPLED = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(0)))


def opened(provider: MeterProvider, *, exemplars: bool = True) -> InMemoryMetricReader:
    """Opens a provider for a new reader."""
    reader = InMemoryMetricReader()
    inner = ForklessMeterProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.open(
        Metering(resource=RESOURCE, provider=inner, readers=[reader], views=(), lean=True, exemplars=exemplars)
    )
    return reader


def points(data: MetricsData | None) -> dict[str, list[Any]]:
    """The points of a collection by metric."""
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found.setdefault(metric.name, []).extend(metric.data.data_points)
    return found


@pytest.mark.parametrize("locked", [False, True])
def test_eight_threads_lose_nothing(monkeypatch: pytest.MonkeyPatch, locked: bool) -> None:
    """Sums, counts and buckets are exact with the interpreter handing over all the time, and so is a collection
    in between; with the locks of a free-threaded build too.
    """
    if FREE_THREADED and not locked:
        pytest.skip("a free-threaded build takes the locks")
    monkeypatch.setattr(engine_cells, "FREE_THREADED", locked)
    provider = MeterProvider()
    reader = opened(provider)
    meter = provider.get_meter("test")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
    bound: Any = counter
    cell = bound.bind({"of": "cell"})
    times, threads = 20_000, 8
    stop = threading.Event()
    seen: list[float] = []

    def measure() -> None:
        for number in range(times):
            counter.add(1, {"of": "call"})
            cell.add(2)
            histogram.record(number % 10, {"of": "call"})

    def collect() -> None:
        while not stop.is_set():
            for point in points(reader.get_metrics_data()).get("h", ()):
                assert point.count == sum(point.bucket_counts)
                seen.append(point.count)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        working = [threading.Thread(target=measure) for _ in range(threads)]
        collecting = threading.Thread(target=collect)
        for thread in (*working, collecting):
            thread.start()
        for thread in working:
            thread.join()
        stop.set()
        collecting.join()
    finally:
        sys.setswitchinterval(interval)
    found = points(reader.get_metrics_data())
    assert {point.attributes["of"]: point.value for point in found["c"]} == {
        "call": times * threads,
        "cell": 2 * times * threads,
    }
    (point,) = found["h"]
    assert (point.count, point.sum) == (times * threads, sum(number % 10 for number in range(times)) * threads)
    assert seen == sorted(seen)


def test_a_new_opening_begins_at_zero_and_bound_series_stay_valid() -> None:
    """The start time is the opening's; what was not measured since is not said."""
    provider = MeterProvider()
    first = opened(provider)
    meter = provider.get_meter("test")
    counter: Any = meter.create_counter("c")
    histogram: Any = meter.create_histogram("h")
    cell, other = counter.bind({"k": "v"}), histogram.bind({"k": "v"})
    cell.add(5)
    counter.add(1, {"k": "other"})
    other.record(3)
    before = points(first.get_metrics_data())
    second = opened(provider)
    assert points(second.get_metrics_data()) == {}
    cell.add(2)
    other.record(4)
    after = points(second.get_metrics_data())
    assert [point.value for point in after["c"]] == [2]
    assert [(point.count, point.sum, point.min, point.max) for point in after["h"]] == [(1, 4, 4, 4)]
    assert after["c"][0].start_time_unix_nano > before["c"][0].start_time_unix_nano


def test_instruments_of_before_the_first_opening_become_live_with_it() -> None:
    """What was measured before counts nowhere."""
    provider = MeterProvider()
    counter = provider.get_meter("test").create_counter("c", "{thing}", "things")
    counter.add(1)
    reader = opened(provider)
    counter.add(2)
    assert [point.value for point in points(reader.get_metrics_data())["c"]] == [2]


def test_beyond_the_limit_series_are_added_up_and_the_attribute_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """2000 series a metric, the overflow's included, and one warning."""
    provider = MeterProvider()
    reader = opened(provider)
    counter = provider.get_meter("test").create_counter("orders")
    with caplog.at_level(logging.WARNING, "otelkit.engine"):
        for _ in range(2):
            for number in range(LIMIT + 500):
                counter.add(1, {"user": f"u{number}", "plan": "pro" if number % 2 else "free"})
    found = points(reader.get_metrics_data())["orders"]
    assert len(found) == LIMIT
    assert sum(point.value for point in found) == 2 * (LIMIT + 500)
    (overflow,) = [point for point in found if point.attributes == {"otel.metric.overflow": True}]
    assert overflow.value == 2 * 501
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "otelkit.engine"]
    assert "orders" in warning
    assert "'user'" in warning


def test_a_measurement_within_a_sampled_trace_leaves_an_exemplar_until_the_next_collection() -> None:
    """One a bucket and collection; each reader gets it once; outside of a sampled trace there is none."""
    provider = MeterProvider()
    one = opened(provider)
    two = InMemoryMetricReader()
    provider.add_metric_reader(two)
    meter = provider.get_meter("test")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
    gauge = meter.create_gauge("g")
    for span in (UNSAMPLED, SAMPLED, SAMPLED):
        token = variable.set(with_span(span))
        counter.add(1)
        gauge.set(1)
        for value in (1, 2, 700):
            histogram.record(value)
        variable.reset(token)
    for reader in (one, two):
        found = points(reader.get_metrics_data())
        assert [_ids(exemplar) for exemplar in found["c"][0].exemplars] == [(0xABC, 0xDEF)]
        assert [_ids(exemplar) for exemplar in found["g"][0].exemplars] == [(0xABC, 0xDEF)]
        assert [exemplar.value for exemplar in found["h"][0].exemplars] == [1, 700]
    counter.add(1)
    for reader in (one, two):
        assert all(not point.exemplars for found in points(reader.get_metrics_data()).values() for point in found)


def test_a_measurement_may_name_its_context() -> None:
    """As in OpenTelemetry's API: not the current one then."""
    provider = MeterProvider()
    reader = opened(provider)
    counter = provider.get_meter("test").create_counter("c")
    token = variable.set(with_span(UNSAMPLED))
    counter.add(1, {"k": "given"}, with_span(SAMPLED))
    variable.reset(token)
    token = variable.set(with_span(SAMPLED))
    counter.add(1, {"k": "unsampled"}, with_span(UNSAMPLED))
    variable.reset(token)
    found = {point.attributes["k"]: len(point.exemplars) for point in points(reader.get_metrics_data())["c"]}
    assert found == {"given": 1, "unsampled": 0}


def test_without_exemplars_there_are_none() -> None:
    """OTEL_METRICS_EXEMPLAR_FILTER=always_off."""
    provider = MeterProvider()
    reader = opened(provider, exemplars=False)
    counter = provider.get_meter("test").create_counter("c")
    token = variable.set(with_span(SAMPLED))
    counter.add(1)
    variable.reset(token)
    assert points(reader.get_metrics_data())["c"][0].exemplars == []


@pytest.mark.parametrize("amount", ["many", None, object(), [1]], ids=["text", "none", "object", "list"])
def test_what_is_no_number_is_refused_and_nothing_is_raised(amount: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A measurement must not fail a request; the series stays as it was."""
    provider = MeterProvider()
    reader = opened(provider)
    meter = provider.get_meter("test")
    counter = meter.create_counter("c")
    with caplog.at_level(logging.WARNING, "otelkit"):
        counter.add(1)
        counter.add(amount)
        meter.create_histogram("h").record(amount)
        meter.create_gauge("g").set(amount)
        counter.add(1, "no mapping")  # type: ignore[arg-type]
    found = points(reader.get_metrics_data())
    assert [point.value for point in found["c"]] == [1]
    assert set(found) == {"c"}


def _ids(exemplar: Exemplar) -> tuple[int | None, int | None]:
    return exemplar.trace_id, exemplar.span_id


def test_a_stand_in_for_a_reader_is_no_failure() -> None:
    """OpenTelemetry's own tests have such: it says nothing of temporality, and is shut down as the others are."""
    reader, provider = Mock(), MeterProvider()
    inner = ForklessMeterProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.open(Metering(resource=RESOURCE, provider=inner, readers=[reader], views=(), lean=True, exemplars=True))

    provider.get_meter("test").create_counter("c").add(1)
    provider.shutdown()

    reader.shutdown.assert_called_once()
