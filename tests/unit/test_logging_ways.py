"""Every way in which applications log: each record is exported once, with its body, severity, attributes and trace."""

from __future__ import annotations

import io
import logging
import logging.config
import logging.handlers
import queue
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import loguru
import pytest
import structlog

import otelkit
from tests.support.process import run_python
from tests.support.started import Started, started

DEBUG, INFO, WARN, ERROR = 5, 9, 13, 17
INSTRUMENTED = dict.fromkeys(("logging", "structlog", "loguru"), "otelkit")
Log = logging.getLogger("shop")


@pytest.fixture(params=["otelkit", "sdk"])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Started]:
    """Telemetry with all of them instrumented; what a test configures is taken back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with started(tmp_path, instrument=INSTRUMENTED, engine=request.param) as running:
        yield running
    logging.captureWarnings(False)
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    loguru.logger.remove()
    loguru.logger.add(sys.stderr)


class Shy:
    """An object whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@dataclass(frozen=True)
class Way:
    """A call that logs once, and the record that is exported."""

    call: Callable[[], object]
    body: object
    severity: int = INFO
    scope: str = "shop"
    attributes: dict[str, object] = field(default_factory=dict)
    event_name: str = ""
    error: str = ""


def failing(log: Callable[[], object]) -> Callable[[], None]:
    """Logs in an except block."""

    def call() -> None:
        try:
            raise LookupError("no price")
        except LookupError:
            log()

    return call


def structlog_alone(**config: Any) -> Any:
    """structlog's own printing."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()), **config)
    return structlog.get_logger()


def masked(_: object, __: str, event: Any) -> Any:
    event["card"] = "****"
    return event


def structlog_masking() -> None:
    log = structlog_alone(processors=[masked, structlog.processors.JSONRenderer()])
    log.bind(plan="pro").warning("paid", card="4242", event_name="order.paid")


def structlog_contextvars() -> None:
    structlog_alone(processors=[structlog.contextvars.merge_contextvars, structlog.processors.KeyValueRenderer()])
    with structlog.contextvars.bound_contextvars(plan="pro"):
        structlog.get_logger().info("paid")


def structlog_text_of_error() -> None:
    log = structlog_alone(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])
    log.exception("failed", order=7)


def structlog_below() -> None:
    structlog_alone().debug("too low")
    structlog.get_logger().info("paid")


def structlog_dropping() -> None:
    def drop(_: object, __: str, event: Any) -> Any:
        if event["event"] == "dropped":
            raise structlog.DropEvent
        return event

    structlog_alone(processors=[drop, structlog.processors.JSONRenderer()])
    structlog.get_logger().info("dropped")
    structlog.get_logger().info("paid")


def structlog_standard(last: Any) -> Any:
    """structlog over the logging module."""
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.stdlib.PositionalArgumentsFormatter(), last],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return structlog.get_logger("shop")


def structlog_wrapped() -> None:
    structlog_standard(structlog.stdlib.ProcessorFormatter.wrap_for_formatter).info(
        "paid %s", 7, plan="pro", event_name="order.paid"
    )


def structlog_wrapped_error() -> None:
    structlog_standard(structlog.stdlib.ProcessorFormatter.wrap_for_formatter).exception("failed", order=7)


def structlog_keywords() -> None:
    structlog_standard(structlog.stdlib.render_to_log_kwargs).warning("paid", plan="pro")


def structlog_rendered() -> None:
    structlog_standard(structlog.processors.JSONRenderer(sort_keys=True)).info("paid", plan="pro")


def loguru_without_sinks() -> None:
    loguru.logger.remove()
    loguru.logger.bind(plan="pro").info("paid {}", 7)


def loguru_configured() -> None:
    loguru.logger.configure(handlers=[{"sink": io.StringIO()}])
    with loguru.logger.contextualize(plan="pro"):
        loguru.logger.warning("paid", event_name="order.paid")


def loguru_below() -> None:
    loguru.logger.debug("too low")
    loguru.logger.success("paid")


def loguru_intercepting() -> None:
    """The recipe of loguru's own documentation."""

    class Intercept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            loguru.logger.opt(depth=6, exception=record.exc_info).log(record.levelname, record.getMessage())

    logging.basicConfig(handlers=[Intercept()], level=0, force=True)
    Log.info("paid")


def dict_configured() -> None:
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"h": {"class": "logging.StreamHandler", "stream": io.StringIO()}},
        "root": {"handlers": ["h"], "level": "ERROR"},
    })  # fmt: skip
    Log.info("paid")


def queued() -> None:
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    logging.getLogger().addHandler(logging.handlers.QueueHandler(waiting))
    listener = logging.handlers.QueueListener(waiting, logging.StreamHandler(io.StringIO()))
    listener.start()
    Log.warning("paid %s", 7)
    listener.stop()


def warned() -> None:
    logging.captureWarnings(True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old price list", DeprecationWarning, stacklevel=1)


def reserved() -> None:
    Log.info(
        "paid", extra={"trace_id": "mine", "body": "b", "code.line.number": -1, "severity": "s", "exception.type": "x"}
    )


ODD = {"trace_id": "mine", "body": "b", "code.line.number": -1, "severity": "s", "exception.type": "x"}
PRO: dict[str, object] = {"plan": "pro"}
TEXTS = {INFO: "INFO", INFO + 1: "SUCCESS", WARN: "WARNING", ERROR: "ERROR"}
EVENT = "order.paid"
WAYS = {
    "structlog, alone": Way(structlog_masking, "paid", WARN, "structlog", {**PRO, "card": "****"}, EVENT),
    "structlog, contextvars": Way(structlog_contextvars, "paid", INFO, "structlog", PRO),
    "structlog, an error as text": Way(
        failing(structlog_text_of_error), "failed", ERROR, "structlog", {"order": 7}, error="LookupError"
    ),
    "structlog, an error": Way(
        failing(lambda: structlog_alone().exception("failed", order=7)),
        "failed", ERROR, "structlog", {"order": 7}, error="LookupError",
    ),
    "structlog, below the level": Way(structlog_below, "paid", INFO, "structlog"),
    "structlog, dropped": Way(structlog_dropping, "paid", INFO, "structlog"),
    "structlog, wrap_for_formatter": Way(structlog_wrapped, "paid 7", attributes=PRO, event_name=EVENT),
    "structlog, wrap_for_formatter, an error": Way(
        failing(structlog_wrapped_error), "failed", ERROR, attributes={"order": 7}, error="LookupError"
    ),
    "structlog, render_to_log_kwargs": Way(structlog_keywords, "paid", WARN, attributes={**PRO, "level": "warning"}),
    "structlog, rendered by itself": Way(structlog_rendered, '{"event": "paid", "level": "info", "plan": "pro"}'),
    "loguru, no sink": Way(loguru_without_sinks, "paid 7", INFO, __name__, PRO),
    "loguru, configure": Way(loguru_configured, "paid", WARN, __name__, PRO, EVENT),
    "loguru, below the level": Way(loguru_below, "paid", INFO + 1, __name__),
    "loguru, an error": Way(
        failing(lambda: loguru.logger.exception("failed")), "failed", ERROR, __name__, error="LookupError"
    ),
    "loguru, behind logging": Way(loguru_intercepting, "paid"),
    "dictConfig": Way(dict_configured, "paid"),
    "QueueHandler": Way(queued, "paid 7", WARN),
    "warnings": Way(warned, None, WARN, "py.warnings"),
    "logger.exception": Way(failing(lambda: Log.exception("failed")), "failed", ERROR, error="LookupError"),
    "a dict": Way(lambda: Log.info({"order": 7}), "{'order': 7}"),
    "a number": Way(lambda: Log.info(7), "7"),
    "bytes": Way(lambda: Log.info(b"x"), "b'x'"),
    "None": Way(lambda: Log.info(None), "None"),
    "an exception": Way(lambda: Log.error(KeyError("k")), "'k'", ERROR),
    "a very long text": Way(lambda: Log.info("é" * 1_000_000), None),
    "a text that raises": Way(lambda: Log.info("paid by %s", Shy()), "paid by %s"),
    "extra with our names": Way(reserved, "paid", attributes=ODD),
    "LoggerAdapter": Way(lambda: logging.LoggerAdapter(Log, PRO).info("paid"), "paid", attributes=PRO),
    "event_name": Way(
        lambda: Log.info("paid", extra={"event_name": EVENT, **PRO}), "paid", attributes=PRO, event_name=EVENT
    ),
    "event_name of another type": Way(
        lambda: Log.info("paid", extra={"event_name": 7}), "paid", attributes={"event_name": 7}
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Remove `format_exc_info`")
@pytest.mark.parametrize("name", WAYS)
def test_a_record_is_exported_once_with_all_that_it_says(
    exported: Started, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the trace and under the request's values; no span of its own."""
    monkeypatch.setattr(logging, "raiseExceptions", False)  # a text that raises is printed to stderr else
    way = WAYS[name]
    with otelkit.span("request"), otelkit.bind(tenant="acme"):
        way.call()
    spans = exported.spans()
    (log,) = exported.logs()
    assert set(spans) == {"request"}
    assert (log.record.trace_id.hex(), log.record.span_id.hex()) == (
        spans["request"].trace_id,
        spans["request"].span_id,
    )
    assert (log.record.severity_number, log.scope, log.record.event_name) == (way.severity, way.scope, way.event_name)
    assert log.record.severity_text == TEXTS[way.severity]
    assert abs(log.record.time_unix_nano - time.time_ns()) < 60e9
    found = log.attributes
    assert found.pop("tenant") == "acme"
    if way.body is not None:
        assert log.body == way.body
    if name == "a very long text":
        assert set(log.body) <= {"é", "…"} or log.body.startswith("é" * 1000)
        assert len(log.body.encode()) <= 64 * 1024
    if name.startswith("loguru") and name != "loguru, behind logging":
        assert (found["code.file.path"], found["code.line.number"] > 0) == (__file__, True)
    if name == "warnings":
        assert "DeprecationWarning: old price list" in str(log.body)
    assert {key: found[key] for key in way.attributes} == way.attributes
    others = {key for key in found if not key.startswith(("code.", "exception.", "otelkit.error."))}
    assert others == {key for key in way.attributes if not key.startswith(("code.", "exception."))}
    assert (found.get("exception.type") == way.error) if way.error else ("exception.stacktrace" not in found)
    if way.error:
        assert found["exception.message"] == "no price"
        assert "raise LookupError" in found["exception.stacktrace"]
        assert len(found["otelkit.error.fingerprint"]) == 16


@pytest.mark.parametrize("log", [Log.exception, loguru.logger.exception, structlog.get_logger().exception])
def test_an_error_that_is_logged_and_leaves_its_span_has_one_stack(
    exported: Started, log: Callable[[str], object]
) -> None:
    """Whoever logs it."""
    structlog_alone()

    def fail() -> None:
        try:
            raise LookupError("no price")
        except LookupError:
            log("failed")
            raise

    with pytest.raises(LookupError), otelkit.span("request"):
        fail()
    assert [log.body for log in exported.logs()] == ["failed"]
    assert exported.spans()["request"].attributes["error.type"] == "LookupError"


PRINTING = """
import logging, sys, loguru, structlog
START
structlog.get_logger().info("native", plan="pro")
structlog.get_logger().debug("native", plan="pro")
loguru.logger.debug("loguru")
loguru.logger.remove()
number = loguru.logger.add(sys.stderr, format="{level} {message} {extra}", level="DEBUG")
loguru.logger.bind(plan="pro").debug("configured")
loguru.logger.remove(number)
loguru.logger.error("nowhere")
structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.processors.JSONRenderer()])
logging.basicConfig()
structlog.get_logger("shop").warning("standard", plan="pro")
structlog.get_logger("shop").info("standard", plan="pro")
END
"""


def test_what_they_print_is_the_same(tmp_path: Path) -> None:
    """With and without telemetry."""
    start = "import otelkit; otelkit.bootstrap('x', otel_log_level='critical')"
    texts = []
    for first, last in (("pass", ""), (start, "otelkit.shutdown(0)")):
        finished = run_python(PRINTING.replace("START", first).replace("END", last), cwd=tmp_path)
        texts.append(re.sub(r"\d+", "N", finished.out + finished.err).splitlines())
    assert texts[1] == texts[0]
    assert len(texts[0]) == 5


def test_nothing_is_left_after_the_end(tmp_path: Path) -> None:
    """The wrapped methods are the libraries' own again, and no sink is left."""

    def methods() -> list[object]:
        return [vars(structlog.BoundLoggerBase)["_process_event"], vars(type(loguru.logger))["remove"]]

    before, sinks = methods(), repr(loguru.logger)
    with started(tmp_path, instrument=INSTRUMENTED):
        assert not [now for now, earlier in zip(methods(), before, strict=True) if now is earlier]
        assert repr(loguru.logger) != sinks
    assert methods() == before
    assert repr(loguru.logger) == sinks
