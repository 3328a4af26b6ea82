"""otelkit's engine exports the log records that the SDK's engine exports, and the SDK's own encoder agrees.

What may differ, and nothing else:
- nothing raises into the application, whatever a processor does;
- a body is taken as it is when it is emitted, where the SDK sends what became of it until then;
- the SDK warns (LogRecordDroppedAttributesWarning) when a limit drops attributes, otelkit's engine counts them only;
- records that need the SDK's logger and those that do not come in two groups of one scope, and a record that is in no
  trace has no flags;
- the values bound to a request stand before the record's own attributes, and are the first to go at the limit;
- bodies and attributes that OTLP has no place for (integers beyond 64 bits, lone surrogates, other objects) become
  texts; the SDK's encoder drops the attribute, or with a body the whole batch.
"""

from __future__ import annotations

import contextvars
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk import _logs as sdk
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanContext, Tracer, set_span_in_context, use_span

from otelkit.delivery.records import Shared
from otelkit.engine.logs import Logger as OwnLogger
from otelkit.engine.opening import Extras
from otelkit.signals import correlation
from tests.support.examples import examples
from tests.support.parity import ENGINES, Emitted, Engine, EngineName, logs, quiet
from tests.support.programs import LETTERS, Maker, Titled, caught, deep_values, handed, made, spoil
from tests.support.records import a_pipeline
from tests.support.sink import Sink, attributes, plain

_quiet = pytest.fixture(autouse=True)(quiet)

LIMIT_SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 5).map(str)
        for name in (
            "OTEL_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        )
    },
)
BODIES = ["text", "", 1, -5, 2.5, True, None, b"b\x00", ["a", 1, [None]], {"a": {"b": (1,)}, "": 1}, ("t",), [], {}]
ODD_BODIES = [1 << 64, "\ud800", {1: "one"}, Titled(), [Titled(), 3j], {"set"}, frozenset((1,)), bytearray(b"ab")]


@dataclass
class Emit:
    """One call of a logger, within a span of the engine's or one of elsewhere; a context is that of a span."""

    fields: Mapping[str, Any]
    as_record: bool
    within: Literal["own"] | SpanContext | None
    logger: int

    def do(self, loggers: Sequence[Logger], tracer: Tracer) -> None:
        fields = {name: value if name == "body" else handed(value) for name, value in self.fields.items()}
        if isinstance(fields.get("context"), SpanContext):
            fields["context"] = set_span_in_context(NonRecordingSpan(fields["context"]), Context())
        if fields.get("exception"):
            fields["exception"] = caught(fields["exception"])
        if self.within is None:
            span: Span = INVALID_SPAN
        else:
            span = tracer.start_span("around") if self.within == "own" else NonRecordingSpan(self.within)
        with use_span(span):
            logger = loggers[self.logger % len(loggers)]
            if self.as_record:
                logger.emit(LogRecord(**fields))
            else:
                logger.emit(**fields)
        spoil(fields.get("attributes"))


def _emit(maker: Maker, *, odd: bool) -> Emit:
    fields = {
        "timestamp": maker.choose((None, 0, maker.time())),
        "observed_timestamp": maker.choose((None, 0, maker.time())),
        "context": maker.choose((None, Context(), Context({"other": 1}), maker.context(), maker.context())),
        "severity_number": maker.choose((None, *SeverityNumber)),
        "severity_text": maker.choose((None, *LETTERS)),
        "body": maker.choose(BODIES + ODD_BODIES if odd else BODIES),
        "attributes": maker.attributes(),
        "event_name": maker.choose((None, "", "event.name")),
        "exception": maker.choose((None, None, None, "chained")),
    }
    return Emit(
        {name: value for name, value in fields.items() if maker.maybe()},
        as_record=maker.choose((False, False, True)),
        within=maker.choose((None, "own", maker.context())),
        logger=maker.number(),
    )


def emits(*, odd: bool) -> st.SearchStrategy[list[Emit]]:
    """Programs of a few records."""
    return st.lists(made(lambda maker: _emit(maker, odd=odd), odd=odd), min_size=1, max_size=8)


def run(engine: Engine, program: Sequence[Emit]) -> None:
    """Emits the program's records."""
    provider = engine.logger_provider
    loggers = [
        provider.get_logger("first"),
        provider.get_logger("second", "1.2", "https://schema", {"scope": (1, 2)}),
        provider.get_logger("first"),
    ]
    tracer = engine.tracer_provider.get_tracer("first")
    for step in program:
        step.do(loggers, tracer)


@pytest.fixture(autouse=True)
def _dropping() -> Iterator[None]:
    """The SDK warns of what the limits here are meant to drop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sdk.LogRecordDroppedAttributesWarning)
        yield


class Changing(Emitted):
    """A user's processor that changes the records."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        record = log_record.log_record
        record.body = [record.body, "changed"]
        record.severity_text = "changed"
        record.attributes["by"] = "a processor"  # type: ignore[index]
        super().on_emit(log_record)


@settings(max_examples=examples(150))
@given(emits(odd=True), LIMIT_SETTINGS)
def test_a_program_exports_the_same_records_on_both_engines(program: list[Emit], limits: dict[str, str]) -> None:
    """By fields and as records: bodies, attributes, severities, contexts, times, exceptions, each limit from 0 to 5."""
    engines = [Engine(name, limits) for name in ENGINES]
    for engine in engines:
        run(engine, program)
    own, reference = (logs(engine.intake.logs_request()) for engine in engines)
    assert own == reference


@settings(max_examples=examples(100))
@given(emits(odd=False), LIMIT_SETTINGS)
def test_the_sdks_own_encoder_agrees(program: list[Emit], limits: dict[str, str]) -> None:
    """The reference is the SDK's, not otelkit's reading of it: its records by its encoder are otelkit's requests."""
    engine = Engine("sdk", limits)
    references = engine.references()
    run(engine, program)
    expected = logs(references.logs_request())
    assert logs(engine.intake.logs_request()) == expected
    own = Engine("otelkit", limits)
    run(own, program)
    assert logs(own.intake.logs_request()) == expected


@settings(max_examples=examples(60))
@given(emits(odd=False), LIMIT_SETTINGS)
def test_a_users_processor_changes_the_same(program: list[Emit], limits: dict[str, str]) -> None:
    """What a LogRecordProcessor makes of a record is exported, and it sees the same on both engines."""
    changing = [Changing(), Changing()]
    engines = [
        Engine(name, limits, extras=Extras(log_processors=(processor,)))
        for name, processor in zip(ENGINES, changing, strict=True)
    ]
    for engine in engines:
        run(engine, program)
    own, reference = (logs(engine.intake.logs_request()) for engine in engines)
    assert own == reference
    assert len(changing[0].kept) == len(changing[1].kept) == len(program)


@settings(max_examples=examples(60))
@given(deep_values())
def test_values_of_any_depth_are_the_same_in_bodies_and_attributes(value: Any) -> None:
    """Whatever nests in whatever."""
    engines = [Engine(name) for name in ENGINES]
    for engine in engines:
        engine.logger_provider.get_logger("deep").emit(observed_timestamp=1, body=value, attributes={"value": value})
    own, reference = (logs(engine.intake.logs_request()) for engine in engines)
    assert own == reference


@pytest.mark.parametrize("name", ENGINES)
def test_times_that_nobody_gave_are_the_clocks(name: EngineName) -> None:
    """A record without times has an observed one, that of its emission."""
    engine = Engine(name)
    before = time.time_ns()
    engine.logger_provider.get_logger("l").emit(body="now")
    after = time.time_ns()
    (record,) = engine.intake.logs_request().resource_logs[0].scope_logs[0].log_records
    assert before <= record.observed_time_unix_nano <= after
    assert record.time_unix_nano == 0


@pytest.mark.parametrize("limits", [{}, {"OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3"}])
def test_what_is_bound_to_the_request_is_on_the_records_alike(limits: dict[str, str]) -> None:
    """A bound value is on every record that does not say the key itself, within the limits, whatever else there is."""
    found = []
    for name in ENGINES:
        engine = Engine(name, limits)
        logger = engine.logger_provider.get_logger("l")

        def records(logger: OwnLogger = logger) -> None:
            correlation.open_holder({"user.id": "somebody", "key": "bound", "shared": "bound"})
            shared = Shared({"shared": "its own"})
            logger.emit(body="bare")
            logger.emit(body="own", attributes={"key": "its own"})
            logger.write(1, 9, "INFO", "shared", shared)
            logger.write(1, 9, "INFO", "all", shared, {"key": [1], "shared": "newer"})

        contextvars.copy_context().run(records)
        sent = engine.intake.logs_request().resource_logs[0].scope_logs[0].log_records
        found.append([(plain(record.body), attributes(record.attributes)) for record in sent])
    assert found[0] == found[1]
    assert [names.keys() for _, names in found[0]] == [{"user.id", "key", "shared"}] * 4


def test_a_body_is_what_it_was_when_it_was_emitted() -> None:
    """What the application does to a list afterwards does not reach the next hop."""
    engine = Engine("otelkit")
    body: dict[str, Any] = {"items": [1, {"a": 2}]}
    engine.logger_provider.get_logger("l").emit(body=body)
    body["items"][1]["a"] = body["items"].append(3)
    (record,) = engine.intake.logs_request().resource_logs[0].scope_logs[0].log_records
    assert plain(record.body) == {"items": [1, {"a": 2}]}


@settings(max_examples=3)
@given(emits(odd=True))
def test_a_real_pipeline_delivers_the_same_records_to_a_real_receiver(program: list[Emit]) -> None:
    """From the API to the decoded request of a next hop, over both engines."""
    received = []
    for name in ENGINES:
        with Sink() as sink, TemporaryDirectory() as state_dir:
            pipeline = a_pipeline(sink.url, Path(state_dir))
            engine = Engine(name, pipeline=pipeline)
            run(engine, program)
            assert engine.logger_provider.force_flush()
            pipeline.shutdown(5.0)
            request = ExportLogsServiceRequest()
            request.resource_logs.add().scope_logs.add().log_records.extend(found.record for found in sink.logs)
            received.append(logs(request))
    assert received[0] == received[1]
