"""otelkit's engine exports the spans that the SDK's engine exports, and the SDK's own encoder agrees.

What may differ, and nothing else:
- nothing raises into the application: where the SDK lets a failing sampler, processor, `__str__` or argument through,
  otelkit's engine goes on without it;
- a span without explicit times lasts what the monotonic clock says, and lies within its local parent;
- an exception that leaves a block is recorded by otelkit's signals (`error.type`, the status, an event) on both
  engines, and so is not what the SDK's `use_span` would record;
- the type of an exception of the program that runs has no `__main__.` before it;
- a sampler that is set on the provider decides for the tracers that are there, too;
- the values bound to a request stand before the span's own attributes, and are the first to go at the limit;
- the SDK's encoder leaves out a span's and a link's W3C flags and a link's trace state, and drops attributes that OTLP
  has no place for (integers beyond 64 bits, lone surrogates), which otelkit sends as texts.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanContext, SpanKind

from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.opening import Extras
from otelkit.engine.tracing import Tracer
from otelkit.signals import correlation
from tests.support.examples import examples
from tests.support.parity import (
    ENGINES,
    CountedIds,
    Engine,
    EngineName,
    dump,
    numbered,
    parent_seen,
    quiet,
    renumbered,
    traces,
)
from tests.support.programs import Call, Chosen, Maker, Run, Start, answers, deep_values, made, programs
from tests.support.records import a_pipeline
from tests.support.sink import Sink, attributes

LIMIT_SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 5).map(str)
        for name in (
            "OTEL_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_SPAN_EVENT_COUNT_LIMIT",
            "OTEL_SPAN_LINK_COUNT_LIMIT",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
        )
    },
)
SAMPLER_SETTINGS = st.fixed_dictionaries(
    {
        "OTEL_TRACES_SAMPLER": st.sampled_from([
            f"{prefix}{root}" for prefix in ("", "parentbased_") for root in ("always_on", "always_off", "traceidratio")
        ]),
        "OTEL_TRACES_SAMPLER_ARG": st.sampled_from(["0", "0.5", "1"]),
    }
)  # fmt: skip


_quiet = pytest.fixture(autouse=True)(quiet)


class Watcher(SpanProcessor):
    """Notes everything that it sees, and changes each span when it starts."""

    def __init__(self, changes: Mapping[str, Any] | None = None) -> None:
        self.changes = changes
        self.seen: list[str] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.seen.append(f"start {parent_seen(parent_context)} {dump(span)}")
        if self.changes is not None:
            span.set_attributes(self.changes)
            span.set_attribute("by", "a processor")
            span.add_event("started", self.changes, 5)
            span.update_name(f"{span.name}!")

    def _on_ending(self, span: Any) -> None:
        self.seen.append(f"ending {span.is_recording()} {dump(span)}")
        span.set_attribute("too", "late")

    def on_end(self, span: Any) -> None:
        self.seen.append(f"end {dump(span)}")


@dataclass
class Case:
    """A program and what it runs under; made anew for each engine."""

    program: Sequence[Any]
    environ: Mapping[str, str] = field(default_factory=dict)
    sampler: Callable[[], Sampler] | None = None
    changes: Mapping[str, Any] | None = None
    watched: bool = False
    random_flag: bool = False


@dataclass
class Outcome:
    """What came of a program on one engine."""

    request: Any
    reference: Any
    ids: Mapping[int, int]
    notes: list[str]
    seen: list[str]


def outcome(name: EngineName, case: Case, *, referenced: bool = False) -> Outcome:
    """Runs the program once."""
    watcher = Watcher(case.changes)
    extras = Extras(span_processors=(watcher,)) if case.watched else None
    engine = Engine(name, case.environ, extras=extras, ids=CountedIds(random_flag=case.random_flag))
    reference = engine.references() if referenced else None
    if case.sampler is not None:
        engine.tracer_provider.sampler = case.sampler()
    provider = engine.tracer_provider
    run = Run([
        provider.get_tracer("first"),
        provider.get_tracer("second", "1.2", "https://schema", {"scope": (1, 2)}),
        provider.get_tracer("first"),
    ])  # fmt: skip
    run.do(case.program)
    for span in run.spans:
        span.end(10**15 + 1)
    ids = numbered(span.get_span_context() for span in run.spans)
    request = engine.intake.traces_request()
    asked = getattr(engine.tracer_provider.sampler, "asked", [])
    return Outcome(
        request,
        reference and reference.traces_request(),
        ids,
        renumbered([*run.notes, *asked], ids),
        renumbered(watcher.seen, ids),
    )


def assert_parity(case: Case) -> None:
    """Both engines did, said and exported the same."""
    own, sdk = (outcome(name, case) for name in ENGINES)
    assert own.notes == sdk.notes
    assert own.seen == sdk.seen
    assert traces(own.request, own.ids) == traces(sdk.request, sdk.ids)


@settings(max_examples=examples(120))
@given(programs(odd=True))
def test_a_program_exports_the_same_spans_on_both_engines(program: list[Any]) -> None:
    """Attributes of all types, events, links, exceptions, statuses, times, kinds, parents, and calls after the end."""
    assert_parity(Case(program))


@settings(max_examples=examples(120))
@given(programs(odd=True), LIMIT_SETTINGS)
def test_limits_drop_and_count_the_same(program: list[Any], limits: dict[str, str]) -> None:
    """Each OTEL_*_LIMIT of spans, from 0 to 5."""
    assert_parity(Case(program, limits))


@settings(max_examples=examples(80))
@given(programs(odd=False), SAMPLER_SETTINGS, st.booleans())
def test_samplers_of_the_settings_decide_the_same(
    program: list[Any], environ: dict[str, str], random_flag: bool
) -> None:
    """Every OTEL_TRACES_SAMPLER, under parents of every kind, with and without the random flag."""
    assert_parity(Case(program, environ, random_flag=random_flag, watched=True))


@settings(max_examples=examples(80))
@given(programs(odd=False), answers(), LIMIT_SETTINGS, st.booleans())
def test_a_users_sampler_decides_the_same(
    program: list[Any], given_answers: Any, limits: dict[str, str], random_flag: bool
) -> None:
    """A sampler set on the provider is asked the same; its attributes and trace states arrive."""
    assert_parity(Case(program, limits, sampler=lambda: Chosen(given_answers), random_flag=random_flag, watched=True))


@settings(max_examples=examples(80))
@given(programs(odd=True), LIMIT_SETTINGS, made(Maker.attributes, odd=False))
def test_a_users_processor_sees_and_changes_the_same(
    program: list[Any], limits: dict[str, str], changes: dict[str, Any] | None
) -> None:
    """All of ReadableSpan at the start, while ending and at the end, `to_json` included."""
    assert_parity(Case(program, limits, changes=changes, watched=True))


@settings(max_examples=examples(80))
@given(programs(odd=False), LIMIT_SETTINGS, SAMPLER_SETTINGS)
def test_the_sdks_own_encoder_agrees(program: list[Any], limits: dict[str, str], sampler: dict[str, str]) -> None:
    """The reference is the SDK's, not otelkit's reading of it: its spans by its encoder are otelkit's requests."""
    case = Case(program, {**limits, **sampler})
    sdk = outcome("sdk", case, referenced=True)
    expected = traces(sdk.reference, sdk.ids, as_reference=True)
    own = outcome("otelkit", case)
    assert traces(sdk.request, sdk.ids, as_reference=True) == expected
    assert traces(own.request, own.ids, as_reference=True) == expected


@settings(max_examples=examples(60))
@given(deep_values())
def test_values_of_any_depth_are_the_same(value: Any) -> None:
    """Whatever nests in whatever, on a span, an event and a link."""
    link = SpanContext(1, 2, is_remote=True)
    program = [
        Start("deep", None, SpanKind.INTERNAL, {"value": value, "a": 1}, [(link, {"value": value})], 1, 0),
        Call(0, "set_attribute", ("value", value)),
        Call(0, "set_attributes", ({"b": value, "c": value},)),
        Call(0, "add_event", ("event", {"value": value}, 5)),
    ]
    assert_parity(Case(program, watched=True))
    assert_parity(Case(program, {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3", "OTEL_ATTRIBUTE_COUNT_LIMIT": "2"}))


@pytest.mark.parametrize("name", ENGINES)
def test_times_that_nobody_gave_are_those_of_the_clocks(name: EngineName) -> None:
    """Start, event and end lie within what the wall clock said around them, in this order."""
    engine = Engine(name)
    before = time.time_ns()
    with engine.tracer_provider.get_tracer("t").start_as_current_span("span") as span:
        span.add_event("event")
        deadline = time.perf_counter_ns() + 2_000_000
        while time.perf_counter_ns() < deadline:
            pass
    after = time.time_ns()
    (record,) = engine.intake.traces_request().resource_spans[0].scope_spans[0].spans
    (event,) = record.events
    slack = 100_000_000  # the wall clock may be slewed meanwhile, and a thread switch fall between two readings
    assert before <= record.start_time_unix_nano <= event.time_unix_nano <= after + slack
    assert record.start_time_unix_nano + 2_000_000 - slack <= record.end_time_unix_nano <= after + slack


def test_a_child_lies_within_its_parent_when_the_wall_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans below one local root read one clock, events too; one under a parent of over a minute reads it again."""
    wall, monotonic = 10**18, 7 * 10**9
    for module in ("otelkit.engine.tracing", "otelkit.engine.span"):
        monkeypatch.setattr(f"{module}.time_ns", lambda: wall)
        monkeypatch.setattr(f"{module}.perf_counter_ns", lambda: monotonic)
    engine = Engine("otelkit")
    tracer = engine.tracer_provider.get_tracer("t")
    with tracer.start_as_current_span("parent"):
        wall -= 3600 * 10**9
        monotonic += 5
        with tracer.start_as_current_span("child") as child:
            monotonic += 5
            child.add_event("event")
            monotonic += 5
            door.end_at(child, monotonic - 2)
        monotonic += 61 * 10**9
        with tracer.start_as_current_span("late"):
            monotonic += 5
    spans = {span.name: span for span in engine.intake.traces_request().resource_spans[0].scope_spans[0].spans}
    start = spans["parent"].start_time_unix_nano
    assert start == 10**18
    assert spans["parent"].end_time_unix_nano == start + 61 * 10**9 + 20
    assert (spans["child"].start_time_unix_nano, spans["child"].end_time_unix_nano) == (start + 5, start + 13)
    assert spans["child"].events[0].time_unix_nano == start + 10
    assert (spans["late"].start_time_unix_nano, spans["late"].end_time_unix_nano) == (wall, wall + 5)


def test_concurrent_decorated_coroutines_keep_their_own_current_span() -> None:
    """Each task's children hang below its own span, over every await."""

    async def tasks(engine: Engine) -> list[tuple[str, str, int]]:
        tracer = engine.tracer_provider.get_tracer("t")
        turn = asyncio.Event()

        @tracer.start_as_current_span("outer", kind=SpanKind.SERVER)
        async def work(name: str, fails: bool) -> str:
            trace.get_current_span().update_name(name)
            await turn.wait()
            with tracer.start_as_current_span(f"{name}'s child"):
                await asyncio.sleep(0)
            if fails:
                raise ValueError(name)
            return name

        async def open_the_gate() -> None:
            turn.set()

        results = await asyncio.gather(
            work("one", False), work("two", True), work("three", False), open_the_gate(), return_exceptions=True
        )
        assert [str(result) for result in results] == ["one", "two", "three", "None"]
        spans = [span for part in engine.intake.traces_request().resource_spans[0].scope_spans for span in part.spans]
        names = {span.span_id: span.name for span in spans}
        return sorted((span.name, names.get(span.parent_span_id, ""), span.status.code) for span in spans)

    own, sdk_engine = (asyncio.run(tasks(Engine(name))) for name in ENGINES)
    assert own == sdk_engine
    assert ("one's child", "one", 0) in own
    assert ("two", "", 2) in own


def test_an_exception_that_leaves_a_block_is_marked_alike() -> None:
    """As otelkit's signals do: the event, `error.type` and the status with the type and the message."""
    marks = []
    for name in ENGINES:
        engine = Engine(name)
        with pytest.raises(KeyError), engine.tracer_provider.get_tracer("t").start_as_current_span("span"):
            raise KeyError("key")
        (span,) = engine.intake.traces_request().resource_spans[0].scope_spans[0].spans
        (event,) = span.events
        status = (span.status.code, span.status.message)
        marks.append((attributes(span.attributes), status, event.name, attributes(event.attributes)))
    assert marks[0] == marks[1]
    assert marks[0][:3] == ({"error.type": "KeyError"}, (2, "KeyError: 'key'"), "exception")
    assert marks[0][3].keys() == {"exception.type", "exception.message", "exception.stacktrace"}


@pytest.mark.parametrize("limits", [{}, {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3"}])
def test_what_is_bound_to_the_request_is_on_the_spans_alike(limits: dict[str, str]) -> None:
    """A bound value is on every span that does not say the key itself, within the limits, whatever else there is."""
    found = []
    for name in ENGINES:
        engine = Engine(name, limits)
        tracer = cast(Tracer, engine.tracer_provider.get_tracer("t"))

        def spans(tracer: Tracer = tracer) -> None:
            correlation.open_holder({"user.id": "somebody", "key": "bound", "shared": "bound"})
            tracer.start_span("bare").end()
            tracer.start_span("own", attributes={"key": "its own"}).end()
            tracer.begin("shared", shared=Shared({"shared": "its own"})).end()
            tracer.begin("all", shared=Shared({"shared": "its own"}), attributes={"key": [1], "shared": "newer"}).end()
            later = tracer.start_span("later")
            later.set_attribute("key", "later")
            later.set_attributes({"user.id": "another", "": 1})
            later.end()

        contextvars.copy_context().run(spans)
        records = engine.intake.traces_request().resource_spans[0].scope_spans[0].spans
        found.append([(span.name, attributes(span.attributes), span.dropped_attributes_count) for span in records])
    assert found[0] == found[1]
    assert [names.keys() for _, names, _ in found[0]] == [{"user.id", "key", "shared"}] * 5


@settings(max_examples=3)
@given(programs(odd=True))
def test_a_real_pipeline_delivers_the_same_bytes_to_a_real_receiver(program: list[Any]) -> None:
    """From the API to the decoded request of a next hop, over both engines."""
    received = []
    for name in ENGINES:
        with Sink() as sink, TemporaryDirectory() as state_dir:
            pipeline = a_pipeline(sink.url, Path(state_dir))
            engine = Engine(name, pipeline=pipeline)
            run = Run([engine.tracer_provider.get_tracer("first")])
            run.do(program)
            for span in run.spans:
                span.end(7)
            assert engine.tracer_provider.force_flush()
            pipeline.shutdown(5.0)
            request = ExportTraceServiceRequest()
            request.resource_spans.add().scope_spans.add().spans.extend(found.span for found in sink.spans)
            received.append(traces(request, numbered(span.get_span_context() for span in run.spans)))
    assert received[0] == received[1]
