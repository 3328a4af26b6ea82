"""A processor, sampler, callback or any other hook of the user's raises: the application sees only its own error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk.trace import SpanProcessor

from tests.faults.spooled import run_service
from tests.support.parity import ENGINES, Emitted, Engine, EngineName, quiet
from tests.support.programs import Chosen
from tests.support.sink import Sink, attributes

HOOKS = '''
import logging
from opentelemetry import _logs, metrics, propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

class HooksFault(Exception):
    """What the application must never see."""
    def __str__(self):
        raise HooksFault

def fails(*args, **kwargs):
    raise HooksFault

class Spans(SpanProcessor):
    on_start = on_end = _on_ending = shutdown = force_flush = fails

class Logs(LogRecordProcessor):
    on_emit = shutdown = force_flush = fails

class Decides(Sampler):
    should_sample = get_description = fails

class Ids(IdGenerator):
    generate_span_id = generate_trace_id = fails

class Propagates(TextMapPropagator):
    extract = inject = fails
    fields = frozenset({"traceparent"})

class Value:
    __str__ = __repr__ = fails

def observe():
    otelkit.observe("depth", fails)
    metrics.get_meter("m").create_observable_gauge("level", [fails])
    metrics.get_meter("m").create_observable_counter("passed", [fails])

provider = trace.get_tracer_provider()

def replaced(name, value):
    before = getattr(provider, name)
    setattr(provider, name, value)
    return lambda: setattr(provider, name, before)

def propagates():
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Propagates())
    return lambda: propagate.set_global_textmap(before)

# Each is hung up, and returns what takes it down again, where OpenTelemetry has a way for that.
HOOKS = {
    "propagator": propagates,
    "sampler": lambda: replaced("sampler", Decides()),
    "id generator": lambda: replaced("id_generator", Ids()),
    "observable callbacks": observe,
    "log processor": lambda: _logs.get_logger_provider().add_log_record_processor(Logs()),
    "span processor": lambda: provider.add_span_processor(Spans()),
}
'''

APPLICATION = """
from fastapi import FastAPI
from fastapi.testclient import TestClient
import sqlalchemy

app = FastAPI()
engine = sqlalchemy.create_engine("sqlite://")

class Own(ValueError):
    pass

@otelkit.traced(_record=("value",))
def inner(value, error):
    logging.getLogger("shop").warning("about to fail", extra={"value": Value()})
    otelkit.count("made")
    otelkit.event("fails", value=Value())
    with otelkit.span("block", value=Value()):
        with trace.get_tracer("t").start_as_current_span("api"):
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text("SELECT 1"))
            if error is not None:
                raise error

own = Own("the application's own")

@app.get("/fails")
def failing():
    inner(Value(), own)

@app.get("/works")
def working():
    inner(Value(), None)
    return "fine"

def seen():
    client = TestClient(app)
    works = client.get("/works", headers={"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"})
    assert (works.status_code, works.json()) == (200, "fine"), works
    try:
        client.get("/fails")
    except Own as error:
        assert error is own, error
        assert error.__cause__ is error.__context__ is None, error.__context__
        frames = "".join(__import__("traceback").format_exception(error))
        assert "HooksFault" not in frames, frames
    else:
        raise AssertionError("the application's error was swallowed")
    unraised = TestClient(app, raise_server_exceptions=False).get("/fails")
    assert unraised.status_code == 500

for name, hang_up in HOOKS.items():
    before = dict(otelkit.status()["failures"])
    take_down = hang_up()
    seen()
    otelkit.flush(10)
    if take_down is not None:
        take_down()
    after = otelkit.status()["failures"]
    print(json.dumps([name, [what for what in after if after[what] > before.get(what, 0)]]))
otelkit.shutdown()
"""

FAILURES = {
    "propagator": {"the start of a request's telemetry"},
    "sampler": {"the sampler"},
    "id generator": {"the id generator"},
    "observable callbacks": {"a function under otelkit.observe", "a callback of an observable instrument"},
    "log processor": {"a log record"},
    "span processor": {"a span processor's on_start", "a span processor's _on_ending", "a span processor's on_end"},
}
"""The hooks in the order in which they are hung up, and what is counted as failed of each."""


@pytest.mark.slow
def test_the_application_sees_its_own_error_only(tmp_path: Path, sink: Sink) -> None:
    """Itself, not a copy, without a context of ours; the failures are counted, and what does not fail arrives.

    With OTELKIT_ENGINE=sdk it is the SDK that calls processors and samplers, and it lets them fail the application
    (opentelemetry-python#5624).
    """
    finished = run_service(HOOKS + APPLICATION, sink.port, tmp_path, environ={"OTELKIT_ENGINE": "otelkit"})
    failed = {name: set(places) for name, places in map(json.loads, finished.out.splitlines())}
    assert failed.keys() == FAILURES.keys()
    for name, places in FAILURES.items():
        assert places <= failed[name], name
    requests = 3 * len(FAILURES)
    assert sink.total("made") == requests
    assert len([log for log in sink.logs if log.body == "about to fail"]) == requests
    # A sampler that does not answer has not said yes.
    assert len(sink.named("inner")) == len(sink.named("SELECT")) == requests - 3


# -- the engine by itself, and values that cannot be read

_quiet = pytest.fixture(quiet)


class Unreadable(Exception):
    """Neither a value nor an exception that anybody can read."""

    def __str__(self) -> str:
        raise ValueError("unreadable")


class Failing(SpanProcessor):
    """Fails wherever it is called."""

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        raise Unreadable("on_start")

    def _on_ending(self, span: Any) -> None:
        raise Unreadable("_on_ending")

    def on_end(self, span: Any) -> None:
        raise Unreadable("on_end")


class FailingSampler(Chosen):
    """Fails when it is asked."""

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        raise Unreadable("should_sample")


class FailingLogs(Emitted):
    """Fails at every record."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        raise Unreadable("on_emit")


@pytest.mark.usefixtures("_quiet")
def test_nothing_raises_into_the_application_that_makes_spans() -> None:
    """A sampler, processors, values, attributes and exceptions that fail cost their part of the span, and no more."""
    engine = Engine("otelkit")
    provider = engine.tracer_provider
    provider.add_span_processor(Failing())
    tracer = provider.get_tracer("t")
    bad: Any = {"bad": Unreadable("value")}
    nothing: Any = None

    def block() -> None:
        with tracer.start_span("span", attributes=bad, links=[nothing]) as span:
            span.set_attribute("good", 1)
            span.set_attribute("bad", bad["bad"])
            span.set_attributes(bad)
            span.set_attributes(nothing)
            span.add_event("event", bad)
            span.add_link(nothing, bad)
            span.record_exception(Unreadable("exception"), attributes=bad["bad"])
            span.set_status(nothing)
            raise Unreadable("leaves")

    with pytest.raises(Unreadable):
        block()
    (record,) = engine.intake.traces_request().resource_spans[0].scope_spans[0].spans
    assert attributes(record.attributes) == {"good": 1}
    assert [event.name for event in record.events] == ["exception", "exception"]
    assert record.status.code == 2
    provider.sampler = FailingSampler([])
    assert not tracer.start_span("unsampled").is_recording()


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("name", ENGINES)
def test_nothing_raises_into_the_application_that_logs(name: EngineName) -> None:
    """Values that cannot be read and processors that fail cost their part of the record, and no more."""
    engine = Engine(name)
    bad: Any = {"bad": Unreadable("value")}
    number: Any = 17
    logger = engine.logger_provider.get_logger("l")
    logger.emit(body="value", attributes=bad)
    logger.emit(body="number", severity_number=number)
    engine.logger_provider.add_log_record_processor(FailingLogs())
    logger.emit(body="processor")
    scopes = engine.intake.logs_request().resource_logs[0].scope_logs
    bodies = {record.body.string_value for scoped in scopes for record in scoped.log_records}
    assert bodies == {"value", "number", "processor"} if name == "otelkit" else {"number", "processor"}
