"""OpenTelemetry objects of the application's own that `otelkit.bootstrap` is given, with both engines."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

import otelkit
from otelkit.signals.suppression import silence
from tests.support.parity import ENGINES, CountedIds
from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.slow import slow
from tests.support.started import started

DELTA: dict[type, AggregationTemporality] = {Counter: AggregationTemporality.DELTA}


@pytest.fixture(params=ENGINES, autouse=True)
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs with both."""
    monkeypatch.setenv("OTELKIT_ENGINE", request.param)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the ledger and the spool go."""
    return tmp_path / "state"


class Picky(Sampler):
    """Keeps what is not called `dull`, and remembers which names it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        self.asked.append(name)
        decision = Decision.DROP if name == "dull" else Decision.RECORD_AND_SAMPLE
        return SamplingResult(decision, {**(attributes or {}), "picked": True})

    def get_description(self) -> str:
        return "Picky"


class Noted(SpanProcessor, LogRecordProcessor):
    """Puts an attribute on what begins, and notes what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        span.set_attribute("noted", True)

    def on_end(self, span: ReadableSpan) -> None:
        self.calls.append(f"end {span.name}")

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        log_record.log_record.attributes = {**(log_record.log_record.attributes or {}), "noted": True}

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.calls.append("flush")
        return True

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def read(reader: InMemoryMetricReader, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
    """The values of a metric by their attributes, as a reader has them."""
    data: Any = reader.get_metrics_data()
    return {
        tuple(sorted(point.attributes.items())): point.value
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


# -- what they do


def test_a_sampler_decides_on_every_span(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wins over OTEL_TRACES_SAMPLER, and is asked about children of sampled and of dropped spans alike."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    sampler = Picky()
    with started(state, sampler=sampler) as exported:
        with otelkit.span("kept"), otelkit.span("dull"), otelkit.span("inner"):
            pass
        with otelkit.span("dull"), otelkit.span("other"):
            pass
        spans = exported.spans()
    assert sampler.asked == ["kept", "dull", "inner", "dull", "other"]
    assert sorted(spans) == ["inner", "kept", "other"]
    assert spans["inner"].attributes["picked"] is True


def test_what_is_silent_is_not_asked_about(state: Path) -> None:
    """Below an excluded URL nobody records, whatever a sampler would say."""
    sampler = Picky()
    with started(state, sampler=sampler) as exported:
        with silence(), otelkit.span("excluded"):
            pass
        with otelkit.span("served"):
            pass
        assert list(exported.spans()) == ["served"]
    assert sampler.asked == ["served"]


def test_an_id_generator_makes_the_ids(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance wins over the name in OTEL_PYTHON_ID_GENERATOR."""
    monkeypatch.setenv("OTEL_PYTHON_ID_GENERATOR", "random")
    expected = CountedIds()
    with started(state, id_generator=CountedIds()) as exported:
        with otelkit.span("one"):
            pass
        (span,) = exported.spans().values()
    assert span.trace_id == f"{expected.generate_trace_id():032x}"
    assert span.span_id == f"{expected.generate_span_id():016x}"


def test_an_id_generator_by_name_stays_a_setting(state: Path) -> None:
    """A text names an entry point, as OTEL_PYTHON_ID_GENERATOR does."""
    with started(state, id_generator="nobody_offers_this") as exported:
        problems = exported.telemetry.status()["problems"]
    assert [problem for problem in problems if "'nobody_offers_this': no installed package offers it" in problem]


def test_span_limits_win_over_those_of_the_settings(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number and length of the attributes."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
    with started(state, span_limits=SpanLimits(max_span_attributes=2, max_span_attribute_length=3)) as exported:
        with otelkit.span("one") as span:
            for key in "abc":
                span.set_attribute(key, "long text")
        (found,) = exported.spans().values()
    assert len(found.attributes) == 2
    assert set(found.attributes.values()) == {"lon"}
    assert found.span.dropped_attributes_count == 1


def test_processors_receive_and_change_what_is_exported(state: Path) -> None:
    """They come first: what they put onto a record is what all others see, OTLP too."""
    noted, memory, lines = Noted(), InMemorySpanExporter(), InMemoryLogRecordExporter()
    with started(
        state,
        span_processors=[noted, SimpleSpanProcessor(memory)],
        log_record_processors=(noted, SimpleLogRecordProcessor(lines)),
    ) as exported:
        with otelkit.span("one"):
            otelkit.event("happened")
        assert exported.spans()["one"].attributes["noted"] is True
        (log,) = exported.logs()
        assert log.attributes["noted"] is True
    (span,) = memory.get_finished_spans()
    assert (span.name, dict(span.attributes or {})["noted"]) == ("one", True)
    emitted = [item.log_record for item in lines.get_finished_logs()]
    assert [record.event_name for record in emitted] == ["otelkit.application.starting", "happened"]


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
def test_a_reader_reads_beside_the_export(state: Path, temporality: Any) -> None:
    """With its own temporality; what is exported stays cumulative."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    values = []
    with started(state, metric_readers=[reader]) as exported:
        for _ in range(2):
            otelkit.count("orders", 2, plan="pro")
            values.append(read(reader, "orders"))
            exported.flush()
        assert exported.sink.one_series("orders")[-1] == 4
    plan = (("plan", "pro"),)
    assert values == [{plan: 2}, {plan: 4 if temporality is None else 2}]


def test_views_hold_for_readers_and_for_the_export(state: Path) -> None:
    """One that keeps a single attribute, under another name."""
    reader = InMemoryMetricReader()
    view = View(instrument_name="orders", name="shop.orders", attribute_keys={"plan"})
    with started(state, metric_readers=[reader], views=[view]) as exported:
        otelkit.count("orders", 1, plan="pro", user="ada")
        otelkit.count("orders", 2, plan="pro", user="bob")
        otelkit.count("others", 5, user="ada")
        assert read(reader, "shop.orders") == {(("plan", "pro"),): 3}
        assert read(reader, "others") == {(("user", "ada"),): 5}
        sink = exported.flush()
    assert sink.total("shop.orders", plan="pro") == 3
    assert sink.total("others", user="ada") == 5
    assert "orders" not in {metric.name for metric in sink.metrics}


# -- how they live


def test_a_flush_flushes_them_and_a_shutdown_ends_them(state: Path) -> None:
    """Once each, and what a batching processor holds is out."""
    noted, memory = Noted(), InMemorySpanExporter()
    with started(state, span_processors=[noted, BatchSpanProcessor(memory, schedule_delay_millis=60_000)]):
        with otelkit.span("one"):
            pass
        assert otelkit.flush(10).ok
        assert [span.name for span in memory.get_finished_spans()] == ["one"]
        with otelkit.span("two"):
            pass
        assert otelkit.shutdown(10).ok
        assert [span.name for span in memory.get_finished_spans()] == ["one", "two"]
    assert noted.calls == ["end one", "flush", "end two", "flush", "shutdown"]


def test_one_that_hangs_holds_up_nobody(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The flush ends with its time-out, is not ok, says who was late; the others are flushed and delivered."""
    released = threading.Event()

    class Hanging(Noted):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return released.wait(60)

    noted = Noted()
    with started(state, span_processors=[Hanging(), noted], otel_log_level="warning") as exported:
        with otelkit.span("one"):
            pass
        began = time.monotonic()
        with caplog.at_level(logging.WARNING, "otelkit"):
            report = otelkit.flush(2.0)
        took_s = time.monotonic() - began
        released.set()
        assert (report.ok, report.in_memory) == (False, 0)
        assert [span.name for span in exported.sink.spans] == ["one"]
    assert took_s < 10
    assert "the flush of bootstrap's Hanging was not done in time" in caplog.text
    assert noted.calls[:2] == ["end one", "flush"]


def test_one_that_fails_is_told_of_and_harms_nobody(state: Path) -> None:
    """Neither the application nor the delivery."""

    class Failing(Noted):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            raise RuntimeError("no")

    with started(state, span_processors=[Failing()]) as exported:
        with otelkit.span("one"):
            pass
        place = "the flush of bootstrap's Failing"
        before = otelkit.status()["failures"].get(place, 0)
        assert not otelkit.flush(10).ok
        assert [span.name for span in exported.sink.spans] == ["one"]
        assert otelkit.status()["failures"][place] == before + 1


def test_after_a_shutdown_a_start_takes_new_ones_and_the_same_reader(state: Path) -> None:
    """The old ones receive nothing more; sums begin anew."""
    first, second, reader = Noted(), Noted(), InMemoryMetricReader(preferred_temporality=DELTA)
    with started(state, span_processors=[first], metric_readers=[reader]):
        otelkit.count("orders", 3)
        assert read(reader, "orders") == {(): 3}
    with started(state, span_processors=[second], metric_readers=[reader]):
        with otelkit.span("later"):
            pass
        otelkit.count("orders", 4)
        assert read(reader, "orders") == {(): 4}
    assert "end later" not in first.calls
    assert second.calls == ["end later", "flush", "shutdown"]


@pytest.mark.slow
def test_a_start_that_fails_leaves_them_usable(state: Path) -> None:
    """The correct call that follows may be given them again."""
    memory, reader = InMemorySpanExporter(), InMemoryMetricReader()
    noted = Noted()
    objects: dict[str, Any] = {"span_processors": [noted, SimpleSpanProcessor(memory)], "metric_readers": [reader]}
    with (
        pytest.raises(otelkit.UnsupportedLibrary),
        started(state, strict=True, disabled_instrumentations="", instrument={"nosuchlib": "off"}, **objects),
    ):
        pass
    assert noted.calls == []
    with started(state, **objects):
        with otelkit.span("one"):
            otelkit.count("orders")
        assert read(reader, "orders") == {(): 1}
    assert [span.name for span in memory.get_finished_spans()] == ["one"]


def test_a_test_that_captures_has_what_shapes_records_and_nothing_that_takes_them(state: Path) -> None:
    """Processors and readers see nothing of the block, the sampler is not asked; after it all go on."""
    sampler, noted, reader = Picky(), Noted(), InMemoryMetricReader()
    view = View(instrument_name="orders", attribute_keys={"plan"})
    with started(
        state,
        sampler=sampler,
        id_generator=CountedIds(),
        span_limits=SpanLimits(max_span_attributes=1),
        span_processors=[noted],
        metric_readers=[reader],
        views=[view],
    ):
        with otelkit.testing.capture() as telemetry:
            with otelkit.span("dull", a=1, b=2):
                otelkit.count("orders", plan="pro", user="ada")
            span = telemetry.spans.one()
            assert len(span.attributes) == 1
            assert int(span.span_id, 16) >> 48 == CountedIds().generate_span_id() >> 48
            assert telemetry.metrics.value("orders", plan="pro") == 1
            assert "ada" not in str(telemetry.metrics)
        assert (sampler.asked, noted.calls, read(reader, "orders")) == ([], [], {})
        with otelkit.span("after"):
            otelkit.count("orders", plan="free")
        assert (sampler.asked, noted.calls) == (["after"], ["end after"])
        assert read(reader, "orders") == {(("plan", "free"),): 1}


@pytest.mark.parametrize("temporality", ["None", *slow("{Counter: AggregationTemporality.DELTA}")])
def test_a_forked_child_has_them(tmp_path: Path, sink: Sink, temporality: str, request: Any) -> None:
    """The same objects, in parent and child, beside each one's own export; the child's sums are its own."""
    finished = run_python(
        f"""
        import os
        import otelkit
        from opentelemetry.sdk.metrics import Counter
        from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
        from opentelemetry.sdk.metrics.view import View
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from tests.support.parity import CountedIds
        from tests.unit.test_bootstrap_objects import Picky, read

        simple, batched, sampler, ids = InMemorySpanExporter(), InMemorySpanExporter(), Picky(), CountedIds()
        reader = InMemoryMetricReader(preferred_temporality={temporality})
        otelkit.bootstrap(
            "x",
            sampler=sampler,
            id_generator=ids,
            span_processors=[SimpleSpanProcessor(simple), BatchSpanProcessor(batched, schedule_delay_millis=60_000)],
            metric_readers=[reader],
            views=[View(instrument_name="orders", name="shop.orders")],
        )

        def work(name, orders):
            for exporter in (simple, batched):
                exporter.clear()
            sampler.asked.clear()
            with otelkit.span(name) as span, otelkit.span("dull"):
                otelkit.count("orders", orders)
                assert span.get_span_context().trace_id >> 112 == 0xFEDC
            total = read(reader, "shop.orders")[()]
            assert otelkit.flush(10).ok
            for exporter in (simple, batched):
                assert [span.name for span in exporter.get_finished_spans()] == [name], name
            assert sampler.asked == [name, "dull"], sampler.asked
            return total

        print(work("before", 1), flush=True)
        pid = os.fork()
        if pid == 0:
            try:
                print(work("child", 10), flush=True)
            finally:
                os._exit(0 if otelkit.shutdown(10).ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
        print(work("parent", 100))
        """,
        cwd=tmp_path,
        environ={
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
            "OTELKIT_ENGINE": request.node.callspec.params["_engine"],
        },
    )
    assert finished.out.split() == ["1", "10", "101" if temporality == "None" else "100"]
    assert sorted(span.name for span in sink.spans) == ["before", "child", "parent"]
    assert max(sink.one_series("shop.orders")) == 111
