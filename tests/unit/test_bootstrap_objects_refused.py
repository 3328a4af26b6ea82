"""OpenTelemetry objects that `otelkit.bootstrap` is given twice, of a wrong type, or where somebody else is first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, StaticSampler, TraceIdRatioBased

import otelkit
from otelkit.engine.metering import Metering
from otelkit.engine.metering import MeterProvider as Ours
from otelkit.engine.opening import Extras as Receivers
from otelkit.engine.seams import ForklessMeterProvider
from otelkit.given import Given
from tests.support.parity import CountedIds
from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.started import started
from tests.unit.test_bootstrap_objects import Noted, read

RESOURCE = Resource({"service.name": "test"})
MAKERS: dict[str, Any] = {
    "sampler": lambda: TraceIdRatioBased(0.5),
    "id_generator": CountedIds,
    "span_limits": SpanLimits,
    "span_processors": lambda: [Noted()],
    "log_record_processors": lambda: [Noted()],
    "metric_readers": lambda: [InMemoryMetricReader()],
    "views": lambda: [View(instrument_name="x")],
}


def test_the_same_objects_again_are_the_same_start(tmp_path: Path) -> None:
    """Also in another list; nothing is begun and nothing ended."""
    objects: dict[str, Any] = {name: make() for name, make in MAKERS.items()}
    settings: dict[str, Any] = {"disabled_instrumentations": "*", "runtime_metrics": False, "traces_exporter": "none"}
    settings |= {"metrics_exporter": "none", "logs_exporter": "none", "state_dir": str(tmp_path)}
    first = otelkit.bootstrap("test", **settings, **objects)
    try:
        copies: dict[str, Any] = {
            name: list(value) if isinstance(value, list) else value for name, value in objects.items()
        }
        assert otelkit.bootstrap("test", **settings, **copies) is first
        assert objects["span_processors"][0].calls == []
        for name, make in MAKERS.items():
            with pytest.raises(otelkit.AlreadyConfigured, match=rf"\({name}: other objects \((\w+) before, \1 now\)\)"):
                otelkit.bootstrap("test", **settings, **{**objects, name: make()})
            without = {key: value for key, value in objects.items() if key != name}
            with pytest.raises(otelkit.AlreadyConfigured, match=rf"\({name}: other objects \(\w+ before, none now\)\)"):
                otelkit.bootstrap("test", **settings, **without)
        assert objects["span_processors"][0].calls == []
    finally:
        otelkit.shutdown(0.0)


WRONG: list[tuple[str, Any, str]] = [
    (
        "sampler",
        "always_on",
        "sampler is of type str: allowed is an instance of opentelemetry.sdk.trace.sampling.Sampler; by its name it is"
        " traces_sampler='always_on'",
    ),
    (
        "sampler",
        StaticSampler,
        "sampler is the class StaticSampler: allowed is an instance of opentelemetry.sdk.trace.",
    ),
    (
        "id_generator",
        5,
        "id_generator is of type int: allowed is an instance of opentelemetry.sdk.trace.id_generator.IdGenerator, or"
        " the name of an entry point",
    ),
    ("span_limits", {}, "span_limits is of type dict: allowed is an instance of opentelemetry.sdk.trace.SpanLimits"),
    (
        "span_processors",
        Noted(),
        "span_processors is of type Noted: allowed is a list or tuple, each of it an instance of"
        " opentelemetry.sdk.trace.SpanProcessor",
    ),
    (
        "span_processors",
        [Noted(), InMemorySpanExporter()],
        "span_processors[1] is of type InMemorySpanExporter: allowed is an instance of",
    ),
    (
        "log_record_processors",
        [ALWAYS_ON],
        "log_record_processors[0] is of type StaticSampler: allowed is an instance of"
        " opentelemetry.sdk._logs.LogRecordProcessor",
    ),
    (
        "metric_readers",
        [InMemoryMetricReader],
        "metric_readers[0] is the class InMemoryMetricReader: allowed is an instance of"
        " opentelemetry.sdk.metrics.export.MetricReader",
    ),
    ("metric_readers", [InMemoryMetricReader()] * 2, "metric_readers[1] is of type InMemoryMetricReader: it is in the"),
    ("views", "all", "views is of type str: allowed is a list or tuple, each of it an instance of opentelemetry.sdk."),
]


def test_they_come_before_otelkits_own_receivers() -> None:
    """The console shows what the application's processors have put onto a record."""
    theirs, ours = Noted(), Noted()
    found = Given(span_processors=(theirs,), log_record_processors=(theirs,)).beside(
        Receivers((ours,), (ours,)), captured=False
    )
    assert [each is theirs for each in (*found.span_processors, *found.log_processors)] == [True, False, True, False]


@pytest.mark.parametrize(("name", "value", "told"), WRONG)
def test_what_is_of_a_wrong_type_is_refused_by_name(name: str, value: Any, told: str) -> None:
    """The argument, the type, what is allowed; nothing is started, and the object is left alone."""
    with pytest.raises(otelkit.ConfigurationError, match=re.escape(f"bootstrap: {told}")):
        otelkit.bootstrap("test", **{name: value})
    assert otelkit.status()["state"] != "running"


def test_a_reader_of_another_provider_is_refused(tmp_path: Path) -> None:
    """Its provider keeps it, and nothing is started; one that otelkit had before is taken."""
    reader = InMemoryMetricReader()
    theirs = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    with (
        pytest.raises(otelkit.ConfigurationError, match=r"metric_readers\[0\] is of type .* another MeterProvider"),
        started(tmp_path, metric_readers=[reader]),
    ):
        pass
    assert otelkit.status()["state"] != "running"
    theirs.get_meter("theirs").create_counter("theirs").add(1)
    assert read(reader, "theirs") == {(): 1}


@pytest.mark.parametrize("temporality", [None, {Counter: AggregationTemporality.DELTA}], ids=["cumulative", "delta"])
def test_a_reader_added_to_the_provider_reads_every_opening(temporality: Any) -> None:
    """Also one that has the SDK aggregate, whose own providers would keep it for ever."""
    provider, reader = Ours(), InMemoryMetricReader(preferred_temporality=temporality)
    provider.add_metric_reader(reader)
    counter = provider.get_meter("test").create_counter("orders")
    for orders in (1, 2):
        inner = ForklessMeterProvider(shutdown_on_exit=False)
        provider.open(Metering(resource=RESOURCE, provider=inner, readers=(), views=(), lean=True, exemplars=False))
        counter.add(orders)
        assert read(reader, "orders") == {(): orders}


def test_with_someone_elses_providers_they_receive_and_what_cannot_decide_is_told(tmp_path: Path, sink: Sink) -> None:
    """Over two openings; sampler, ids, limits and views are the other provider's own."""
    finished = run_python(
        """
        import logging, os
        import otelkit
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.metrics.view import View
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
        from tests.unit.test_bootstrap_objects import Noted, read

        trace.set_tracer_provider(TracerProvider())
        metrics.set_meter_provider(MeterProvider())
        reader = InMemoryMetricReader()
        for number in (1, 2):
            noted = Noted()
            otelkit.bootstrap(
                f"shop {number}",
                sampler=ALWAYS_OFF,
                span_limits=SpanLimits(),
                span_processors=[noted],
                metric_readers=[reader],
                views=[View(instrument_name="orders")],
            )
            with otelkit.span(f"span {number}"):
                otelkit.count("orders")
            print(noted.calls, read(reader, "orders"))
            otelkit.shutdown(10)
            print(noted.calls)
        """,
        cwd=tmp_path,
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
    )
    assert finished.out.splitlines() == [
        "['end span 1'] {(): 1}",
        "['end span 1', 'flush', 'shutdown']",
        "['end span 2'] {(): 2}",
        "['end span 2', 'flush', 'shutdown']",
    ]
    for name, signal in (("sampler", "traces"), ("span_limits", "traces"), ("views", "metrics")):
        told = f"bootstrap: {name} has no effect, since the provider of {signal} is someone else's"
        assert finished.err.count(told) == 2
    assert "id_generator has no effect" not in finished.err
    assert "registered already" not in finished.err
    assert sorted(span.name for span in sink.spans) == ["span 1", "span 2"]


def test_where_telemetry_is_switched_off_they_receive_nothing(tmp_path: Path) -> None:
    """OTEL_SDK_DISABLED; they are ended all the same."""
    noted, memory = Noted(), InMemorySpanExporter()
    processors = [noted, SimpleSpanProcessor(memory)]
    with started(tmp_path, sdk_disabled=True, span_processors=processors), otelkit.span("one"):
        pass
    assert noted.calls == ["flush", "shutdown"]
    assert memory.get_finished_spans() == ()
