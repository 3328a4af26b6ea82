"""The meter provider, its meters, instruments and readers: they behave as the SDK's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, NoOpMeter, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.support.parity_metrics import RESOURCE, comparable, engine, of_the_sdk, only


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever level an earlier test's telemetry has set."""
    caplog.set_level(logging.WARNING, "otelkit.engine")


class _Reader(InMemoryMetricReader):
    """Keeps the deadlines that it was called with; fails where it is to."""

    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self._fails = fails
        self.called_ms: dict[str, list[float]] = {"force_flush": [], "shutdown": []}

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._call("force_flush", timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        self._call("shutdown", timeout_millis)

    def _call(self, what: str, timeout_millis: float) -> bool:
        self.called_ms[what].append(timeout_millis)
        if self._fails:
            raise ValueError(f"no {what}")
        return True


@pytest.mark.parametrize("ours", [True, False])
def test_a_reader_that_fails_keeps_no_other_from_its_turn(ours: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The provider says which failed, in the same words; a second shutdown does nothing but warn."""
    bad, good = _Reader(fails=True), _Reader(fails=False)
    provider = engine(bad, good) if ours else sdk.MeterProvider([bad, good], resource=RESOURCE, shutdown_on_exit=False)
    with pytest.raises(Exception, match=r"^MeterProvider.force_flush failed .* during collect:\n_Reader: ValueError\("):
        provider.force_flush(5_000)
    with pytest.raises(Exception, match=r"^MeterProvider.shutdown failed .* during shutdown:\n_Reader: ValueError\("):
        provider.shutdown(7_000)
    assert not caplog.records
    provider.shutdown()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    for reader in (bad, good):
        ((flush_ms,), (shutdown_ms,)) = reader.called_ms.values()
        assert 4_000 < flush_ms <= 5_000
        assert 6_000 < shutdown_ms <= 7_000


@pytest.mark.parametrize("ours", [True, False])
def test_a_reader_joins_once_and_leaves_once(ours: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It belongs to one provider, counts nothing twice, and may come back."""
    reader, given = InMemoryMetricReader(), InMemoryMetricReader()
    provider, other = (
        (engine(given), engine()) if ours else (of_the_sdk(given), sdk.MeterProvider(shutdown_on_exit=False))
    )
    calls = []

    def read(options: CallbackOptions) -> list[Observation]:
        calls.append(options)
        return [Observation(7)]

    meter = provider.get_meter("shop")
    meter.create_observable_counter("c", [read])
    provider.add_metric_reader(reader)
    assert not caplog.records
    for again in (provider, other):
        again.add_metric_reader(reader)
        again.add_metric_reader(given)
    assert [record.levelname for record in caplog.records] == 4 * ["WARNING"]
    assert only(reader.get_metrics_data()).value == 7
    assert len(calls) == 1
    for leaving in (reader, given):
        provider.remove_metric_reader(leaving)
        assert leaving.get_metrics_data() is None
    caplog.clear()
    provider.remove_metric_reader(reader)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    provider.add_metric_reader(given)
    assert only(given.get_metrics_data()).value == 7


@pytest.mark.parametrize("ours", [True, False])
def test_advice_on_boundaries_is_taken_as_the_sdk_takes_it(ours: bool, caplog: pytest.LogCaptureFixture) -> None:
    """None at all are boundaries too, what is no boundaries is none, and the first advice on a histogram holds."""
    reader = InMemoryMetricReader()
    meter = (engine(reader) if ours else of_the_sdk(reader)).get_meter("shop")
    wrong: Any = 5
    for name, advice in {"none": [], "wrong": wrong, "texts": ["a"], "twice": [1.0, 2.0]}.items():
        meter.create_histogram(name, explicit_bucket_boundaries_advisory=advice).record(1.5)
    assert [record.levelname for record in caplog.records] == 2 * ["WARNING"]
    meter.create_histogram("twice", explicit_bucket_boundaries_advisory=[7]).record(1.5)
    assert [record.levelname for record in caplog.records] == 3 * ["WARNING"]
    data = reader.get_metrics_data()
    assert data is not None
    (found,) = data.resource_metrics[0].scope_metrics
    bounds = {metric.name: [point.explicit_bounds for point in metric.data.data_points] for metric in found.metrics}  # type: ignore[union-attr]
    assert bounds["none"] == [()]
    assert bounds["twice"] == [(1.0, 2.0)]
    assert bounds["wrong"] == bounds["texts"]
    assert len(bounds["wrong"][0]) == 15


@pytest.mark.parametrize("ours", [True, False])
def test_meters_and_instruments_are_the_sdks(ours: bool) -> None:
    """Libraries that look for the SDK's classes find them, and what an instrument is called; in whatever letters its
    name is written, it is one.
    """
    reader = InMemoryMetricReader()
    provider = engine(reader) if ours else of_the_sdk(reader)
    meter = provider.get_meter("shop", "1", attributes={"of": ["a", "b"]})
    assert isinstance(meter, sdk.Meter)
    assert provider.get_meter("shop", "1", attributes={"of": ["a", "b"]}) is meter
    assert provider.get_meter("shop", "1", attributes={"of": ["a"]}) is not meter

    def read(options: CallbackOptions) -> list[Observation]:
        return [Observation(7, {"k": "a"})]

    observed = meter.create_observable_gauge("e", [read])
    made: list[tuple[Any, type]] = [
        (meter.create_counter("a", "s", "what"), sdk.Counter),
        (meter.create_up_down_counter("b", "s", "what"), sdk.UpDownCounter),
        (meter.create_histogram("c", "s", "what"), sdk.Histogram),
        (meter.create_observable_counter("d", (), "s", "what"), sdk.ObservableCounter),
        (meter.create_observable_up_down_counter("f", (), "s", "what"), sdk.ObservableUpDownCounter),
    ]
    assert all(isinstance(instrument, kind) for instrument, kind in made)
    for instrument, _ in made:
        assert (instrument.unit, instrument.description) == ("s", "what")
        assert instrument.instrumentation_scope.name == "shop"
    assert [instrument.name for instrument, _ in made] == ["a", "b", "c", "d", "f"]
    assert isinstance(observed, sdk.ObservableGauge)
    (measurement,) = observed.callback(CallbackOptions())
    assert (measurement.value, measurement.instrument, measurement.attributes) == (7, observed, {"k": "a"})
    meter.create_counter("Twice").add(1)
    meter.create_counter("tWICE").add(1)
    twice = next(found for found in comparable(reader.get_metrics_data()) if found[0][3] == "twice")
    assert twice[2] == [[[], [("value", ("int", "2"))]]]


@pytest.mark.parametrize("ours", [True, False])
def test_a_meter_without_a_name_measures_nothing(ours: bool, caplog: pytest.LogCaptureFixture) -> None:
    """And says so once, at its creation."""
    reader = InMemoryMetricReader()
    provider = engine(reader) if ours else of_the_sdk(reader)
    meter = provider.get_meter("")
    assert isinstance(meter, NoOpMeter)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    meter.create_counter("c").add(1)
    assert reader.get_metrics_data() is None


@pytest.mark.parametrize("ours", [True, False])
def test_what_a_callback_said_before_it_failed_counts(ours: bool) -> None:
    """And what other callbacks say."""

    def fails(options: CallbackOptions) -> Iterator[Observation]:
        yield Observation(1, {"k": "a"})
        raise ValueError("no more")

    def read(options: CallbackOptions) -> list[Observation]:
        return [Observation(2, {"k": "b"})]

    reader = InMemoryMetricReader()
    meter = (engine(reader) if ours else of_the_sdk(reader)).get_meter("shop")
    meter.create_observable_counter("c", [fails, read])
    ((_, _, points),) = comparable(reader.get_metrics_data())
    assert [found[0][1] for _, found in points] == [("int", "1"), ("int", "2")]
