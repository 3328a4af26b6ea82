"""The providers, and what users hang on them: processors, exporters, samplers and id generators of the SDK's kinds.

The programs of test_parity_traces.py and test_parity_logs.py say what the engines export; these say how they behave.
"""

from __future__ import annotations

import io
import time
import weakref
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk import _logs as sdk_logs
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

from otelkit.engine.opening import Extras
from otelkit.signals.suppression import silence
from tests.support.parity import ENGINES, RESOURCE, CountedIds, Emitted, Engine, EngineName, dump, quiet

_quiet = pytest.fixture(autouse=True)(quiet)


@pytest.mark.parametrize("name", ENGINES)
def test_the_provider_is_one_of_the_sdks(name: EngineName) -> None:
    """Libraries that look for the SDK's classes find them, and a scope has one tracer."""
    engine = Engine(name)
    provider = engine.tracer_provider
    tracer = provider.get_tracer("t", "1", attributes={"a": 1})
    span = tracer.start_span("span")
    assert isinstance(provider, sdk.TracerProvider)
    assert isinstance(tracer, sdk.Tracer)
    assert isinstance(span, sdk.Span)
    assert isinstance(span, sdk.ReadableSpan)
    assert provider.get_tracer("t", "1", attributes={"a": 1}) is tracer
    assert provider.get_tracer("t", "1", attributes={"a": 2}) is not tracer
    with pytest.warns(DeprecationWarning, match="(?i)instrumentation_?scope"):
        assert span.instrumentation_info == tracer.instrumentation_info
    assert dict(provider.resource.attributes) == RESOURCE


def test_processors_of_users_join_and_leave_alike() -> None:
    """A processor sees the end of spans that started before it came; flush and shutdown reach it."""

    class Processor(SpanProcessor):
        def __init__(self, flushes: bool) -> None:
            self.flushes = flushes
            self.calls: list[str] = []

        def on_start(self, span: Any, parent_context: Context | None = None) -> None:
            self.calls.append(f"start {span.name}")

        def on_end(self, span: Any) -> None:
            self.calls.append(f"end {span.name}")

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            self.calls.append("flush")
            return self.flushes

        def shutdown(self) -> None:
            self.calls.append("shutdown")

    calls = []
    for name in ENGINES:
        engine = Engine(name, {"OTEL_TRACES_EXPORTER": "none"})
        provider = engine.tracer_provider
        assert provider.force_flush() is True
        first, second = Processor(flushes=True), Processor(flushes=False)
        provider.add_span_processor(first)
        early = provider.get_tracer("t").start_span("early")
        assert provider.force_flush() is True
        provider.add_span_processor(second)
        early.end()
        early.end()
        provider.get_tracer("t").start_span("late").end()
        assert provider.force_flush() is False
        provider.shutdown()
        calls.append((first.calls, second.calls))
        assert not engine.intake.spans
    assert calls[0] == calls[1]
    assert calls[0][1] == ["end early", "start late", "end late", "flush", "shutdown"]


@pytest.mark.parametrize("name", ENGINES)
def test_a_flush_has_one_deadline_for_all_processors(name: EngineName) -> None:
    """What the first one takes, the next one has no more."""

    class Slow(SpanProcessor):
        def __init__(self) -> None:
            self.allowed_ms: list[int] = []

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            self.allowed_ms.append(timeout_millis)
            time.sleep(0.05)
            return True

    provider = Engine(name).tracer_provider
    first, second = Slow(), Slow()
    for processor in (first, second):
        provider.add_span_processor(processor)
    assert provider.force_flush(1_000)
    assert 500 < first.allowed_ms[0] <= 1_000
    assert second.allowed_ms[0] <= first.allowed_ms[0] - 49


def test_the_sdks_exporters_get_the_same() -> None:
    """InMemorySpanExporter and ConsoleSpanExporter behind the simple and the batching processor."""
    found = []
    for name in ENGINES:
        engine = Engine(name)
        provider = engine.tracer_provider
        out = io.StringIO()
        simple, batched = InMemorySpanExporter(), InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(simple))
        provider.add_span_processor(BatchSpanProcessor(batched))
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out)))
        tracer = provider.get_tracer("t", "1")
        with tracer.start_as_current_span("parent", start_time=1, end_on_exit=False) as parent:
            child = tracer.start_span("child", attributes={"a": [1, "x"]}, start_time=2, kind=SpanKind.CLIENT)
            child.add_event("event", {"b": True}, 3)
            child.set_status(StatusCode.ERROR, "why")
            child.end(4)
        parent.end(5)
        assert provider.force_flush()
        provider.shutdown()
        exported = [[dump(span) for span in exporter.get_finished_spans()] for exporter in (simple, batched)]
        found.append((exported, out.getvalue()))
    assert found[0] == found[1]
    assert [span["name"] for span in found[0][0][0]] == ["'child'", "'parent'"]
    assert found[0][1].count('"name": "child"') == 1


@pytest.mark.parametrize("name", ENGINES)
def test_a_users_id_generator_is_found_by_its_entry_point(
    name: EngineName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_PYTHON_ID_GENERATOR names an entry point of an installed package."""
    package = tmp_path / "counted-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: counted\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[opentelemetry_id_generator]\ncounted = tests.support.parity:CountedIds\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    engine = Engine(name, {"OTEL_PYTHON_ID_GENERATOR": "counted"}, ids=None)
    engine.tracer_provider.get_tracer("t").start_span("span").end()
    (span,) = engine.intake.traces_request().resource_spans[0].scope_spans[0].spans
    assert int.from_bytes(span.span_id, "big") == CountedIds().generate_span_id()
    assert int.from_bytes(span.trace_id, "big") == CountedIds().generate_trace_id()


@pytest.mark.parametrize("name", ENGINES)
def test_a_sampler_set_on_the_provider_decides(name: EngineName) -> None:
    """For the tracers made from then on at least; otelkit's engine obeys in those that are there as well."""
    provider = Engine(name).tracer_provider
    there = provider.get_tracer("there")
    assert there.start_span("before").is_recording()
    provider.sampler = ALWAYS_OFF
    assert provider.sampler is ALWAYS_OFF
    assert not provider.get_tracer("new").start_span("after").is_recording()
    assert there.start_span("after").is_recording() is (name == "sdk")


@pytest.mark.parametrize("name", ENGINES)
def test_the_sampler_that_is_asked_can_be_read(name: EngineName) -> None:
    """The very one that was given, or the kind that the settings name; put back, it decides as before."""
    given = TraceIdRatioBased(0.5)
    assert Engine(name, extras=Extras(sampler=given)).tracer_provider.sampler is given
    assert Engine(name, {"OTEL_TRACES_SAMPLER": "always_off"}).tracer_provider.sampler is ALWAYS_OFF
    provider = Engine(name).tracer_provider
    by_default = provider.sampler
    assert isinstance(by_default, ParentBased)
    provider.sampler = ALWAYS_OFF
    provider.sampler = by_default
    with silence():
        assert not provider.get_tracer("excluded").start_span("span").is_recording()
    assert provider.get_tracer("other").start_span("span").is_recording()


@pytest.mark.parametrize("name", ENGINES)
def test_the_logger_provider_is_one_of_the_sdks(name: EngineName) -> None:
    """Libraries that look for the SDK's classes find them, and a scope has one logger."""
    provider = Engine(name).logger_provider
    logger = provider.get_logger("l", "1")
    assert isinstance(provider, sdk_logs.LoggerProvider)
    assert isinstance(logger, sdk_logs.Logger)
    assert logger.instrumentation_scope.name == "l"
    assert dict(logger.resource.attributes) == RESOURCE
    assert provider.get_logger("l", "1") is logger
    assert provider.get_logger("l", "2") is not logger


@pytest.mark.parametrize("name", ENGINES)
def test_a_logger_is_enabled_where_somebody_wants_its_records(name: EngineName) -> None:
    """The exporter wants all; without one, a user's processor is asked, and decides by what the record will be."""

    class Picky(Emitted):
        def enabled(self, *, severity_number: Any = None, **_: Any) -> bool:
            return severity_number is SeverityNumber.ERROR

    assert Engine(name).logger_provider.get_logger("l").enabled()
    silent = Engine(name, {"OTEL_LOGS_EXPORTER": "none"}).logger_provider
    assert not silent.get_logger("l").enabled()
    silent.add_log_record_processor(Picky())
    assert silent.get_logger("l").enabled(severity_number=SeverityNumber.ERROR)
    assert not silent.get_logger("l").enabled(severity_number=SeverityNumber.INFO)


def test_the_sdks_log_exporters_get_the_same() -> None:
    """InMemoryLogRecordExporter and ConsoleLogRecordExporter behind the simple and the batching processor."""
    found = []
    for name in ENGINES:
        engine = Engine(name)
        provider = engine.logger_provider
        out = io.StringIO()
        simple, batched = InMemoryLogRecordExporter(), InMemoryLogRecordExporter()
        provider.add_log_record_processor(SimpleLogRecordProcessor(simple))
        provider.add_log_record_processor(BatchLogRecordProcessor(batched))
        provider.add_log_record_processor(SimpleLogRecordProcessor(ConsoleLogRecordExporter(out=out)))
        logger = provider.get_logger("l", "1")
        logger.emit(
            timestamp=1,
            observed_timestamp=2,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body={"a": [1]},
            attributes={"b": (1, "x")},
            event_name="event",
        )
        assert provider.force_flush()
        provider.shutdown()
        exported = [[item.to_json() for item in exporter.get_finished_logs()] for exporter in (simple, batched)]
        found.append((exported, out.getvalue()))
        assert len(engine.intake.logs) == 1
    assert found[0] == found[1]
    assert found[0][0][0] == found[0][0][1]
    assert found[0][1].count('"event_name": "event"') == 1


@pytest.mark.parametrize("name", ENGINES)
def test_spans_that_follow_each_other_forever_let_the_old_ones_go(name: EngineName) -> None:
    """A span tells who its parent is, after its end too, and does not keep the parent's attributes in memory."""
    tracer = Engine(name, {"OTEL_TRACES_EXPORTER": "none"}).tracer_provider.get_tracer("t")
    span = tracer.start_span("first")
    first = weakref.ref(span)
    for _ in range(3):
        parent = span
        span = tracer.start_span("next", context=set_span_in_context(parent))
        parent.end()
    assert first() is None
    child, context = cast(sdk.ReadableSpan, span), parent.get_span_context()
    assert child.parent is context
    other = cast(sdk.ReadableSpan, tracer.start_span("other", context=set_span_in_context(parent)))
    span.end()
    cast(sdk.Span, other).end()
    assert child.parent == other.parent == context
