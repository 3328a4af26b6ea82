"""The logging module's records are exported, and what the application prints stays as it was, byte for byte."""

from __future__ import annotations

import logging
import logging.config
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import urllib3

import otelkit
from tests.support.process import run_python
from tests.support.sink import ReceivedLog, Sink
from tests.support.started import Started, started


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Started]:
    """Telemetry with logging instrumented and nothing else; loggers of the tests are reset afterwards."""
    with started(tmp_path, instrument={"logging": "otelkit"}) as running:
        yield running
    for name in ("shop", "shop.orders", "apart"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
        for handler in list(logger.handlers):
            logger.removeHandler(handler)


def bodies(exported: Started) -> list[Any]:
    """What was exported, in order."""
    return [log.body for log in exported.logs()]


def only(exported: Started) -> ReceivedLog:
    """The one record."""
    (log,) = exported.logs()
    return log


def test_a_record_arrives_with_everything_that_logging_knows(logs: Started) -> None:
    """Message, level, time, place, extra, and the ids of the span around it; the logger is the scope."""
    with otelkit.span("checkout"):
        logging.getLogger("shop.orders").warning("order %s of %s", 7, "Ann", extra={"sku": "a", "n": 3})
    log = only(logs)
    span = logs.spans()["checkout"]
    assert log.body == "order 7 of Ann"
    assert log.scope == "shop.orders"
    assert (log.record.severity_text, log.record.severity_number) == ("WARNING", 13)
    assert (log.record.trace_id.hex(), log.record.span_id.hex()) == (span.trace_id, span.span_id)
    assert log.attributes["sku"] == "a"
    assert log.attributes["n"] == 3
    assert log.attributes["code.function.name"] == sys._getframe().f_code.co_name
    assert log.attributes["code.file.path"] == __file__
    assert log.attributes["code.line.number"] > 0
    assert 0 < log.record.time_unix_nano <= log.record.observed_time_unix_nano


@pytest.mark.parametrize(
    ("level", "number"),
    [(1, 1), (5, 1), (10, 5), (15, 6), (20, 9), (25, 10), (29, 12), (30, 13), (40, 17), (50, 21), (99, 24)],
)
def test_every_level_has_a_severity(level: int, number: int) -> None:
    """Levels of one's own lie between the known ones."""
    from otelkit.instrumentation.logging import severity_number

    assert severity_number(level).value == number


def test_loggers_that_inherit_the_roots_level_export_from_info(logs: Started) -> None:
    """Though root says WARNING; below the setting nothing is made."""
    assert logging.getLogger().level == logging.WARNING
    shop = logging.getLogger("shop.orders")
    shop.debug("debug")
    shop.info("info")
    logging.getLogger().info("from root")
    assert not shop.isEnabledFor(logging.DEBUG)
    assert bodies(logs) == ["info", "from root"]


def test_an_explicit_level_is_respected(logs: Started) -> None:
    """Also on a parent, upwards and downwards, also when set later."""
    parent, child = logging.getLogger("shop"), logging.getLogger("shop.orders")
    parent.setLevel(logging.ERROR)
    child.warning("hidden by the parent")
    child.error("shown")
    child.setLevel(logging.DEBUG)
    child.debug("child's own")
    parent.setLevel(logging.NOTSET)
    child.setLevel(logging.NOTSET)
    child.info("inherits root's again")
    child.debug("hidden again")
    assert bodies(logs) == ["shown", "child's own", "inherits root's again"]


def test_root_at_debug_exports_debug(logs: Started) -> None:
    """The setting only ever admits more."""
    root = logging.getLogger()
    root.setLevel(logging.DEBUG)
    try:
        logging.getLogger("shop").debug("debug")
    finally:
        root.setLevel(logging.WARNING)
    assert "debug" in bodies(logs)


def test_disabling_all_logging_disables_the_export(logs: Started) -> None:
    """`logging.disable` is the application's word."""
    logging.disable(logging.ERROR)
    try:
        logging.getLogger("shop").error("no")
    finally:
        logging.disable(logging.NOTSET)
    logging.getLogger("shop").error("yes")
    assert bodies(logs) == ["yes"]


def test_a_filter_on_a_logger_decides_for_the_export_too(logs: Started) -> None:
    """What the application throws away is not sent to anybody."""
    shop = logging.getLogger("shop")

    def no_secrets(record: logging.LogRecord) -> bool:
        return "secret" not in record.getMessage()

    shop.addFilter(no_secrets)
    shop.warning("a secret")
    shop.warning("open")
    shop.removeFilter(no_secrets)
    assert bodies(logs) == ["open"]


def test_loggers_that_do_not_propagate_are_exported(logs: Started) -> None:
    """uvicorn's do not."""
    apart = logging.getLogger("apart")
    apart.propagate = False
    apart.addHandler(logging.NullHandler())
    apart.setLevel(logging.INFO)
    apart.info("apart")
    assert bodies(logs) == ["apart"]


def test_a_record_is_exported_once_however_many_handlers_there_are(logs: Started) -> None:
    """On the logger, its parents and root."""
    for name in ("shop.orders", "shop", ""):
        logging.getLogger(name).addHandler(logging.NullHandler())
    logging.getLogger("shop.orders").warning("once")
    logging.getLogger().handlers.pop()
    assert bodies(logs) == ["once"]


def test_otelkits_own_lines_are_never_exported(logs: Started) -> None:
    """Nor those of the threads that send; a name that only begins alike is the application's."""
    logging.getLogger("otelkit").critical("own")
    logging.getLogger("otelkit.delivery").critical("own")
    logging.getLogger("otelkitchen").warning("not ours")
    assert bodies(logs) == ["not ours"]


def test_root_at_debug_with_a_failing_next_hop_makes_no_loop(tmp_path: Path, sink: Sink) -> None:
    """urllib3's own lines about our requests are neither exported nor printed: nothing grows while nobody logs."""
    root = logging.getLogger()
    root.setLevel(logging.DEBUG)
    printed: list[str] = []

    class Printing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            printed.append(record.name)

    handler = Printing()
    root.addHandler(handler)
    try:
        with started(tmp_path, instrument={"logging": "otelkit"}, blrp_schedule_delay_s=0.01) as exported:
            logging.getLogger("shop").debug("one")
            for _ in range(3):
                exported.flush()
            counted = otelkit.status()["ledger"]["logs"]["accepted"]
            for _ in range(3):
                exported.flush()
            assert otelkit.status()["ledger"]["logs"]["accepted"] == counted
            assert "one" in bodies(exported)
            assert not [body for body in bodies(exported) if "HTTP/1.1" in str(body) or "Starting new" in str(body)]
            assert "shop" in printed
            assert not [name for name in printed if name.startswith("urllib3")]
    finally:
        root.removeHandler(handler)
        root.setLevel(logging.WARNING)


class Shy:
    """An object whose text cannot be made."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def _loop() -> list[Any]:
    inside: list[Any] = []
    inside.append(inside)
    return inside


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (None, None),
        (b"\xff", b"\xff"),
        ({"a": [1, None, {"b": 2.5}]}, {"a": [1, None, {"b": 2.5}]}),
        ((1, "a"), [1, "a"]),
        ({3: "three"}, {"3": "three"}),
        (Path("/x"), repr(Path("/x"))),
        (Shy(), "<Shy without a repr>"),
        ({"deep": Shy()}, {"deep": "<Shy without a repr>"}),
        ({1}, "{1}"),
        (1 << 70, str(1 << 70)),
    ],
    ids=["none", "bytes", "nested", "tuple", "int key", "path", "shy", "deep shy", "set", "big"],
)
def test_any_extra_arrives_as_itself_or_as_its_text(logs: Started, value: Any, arrives: Any) -> None:
    """And never costs the record."""
    logging.getLogger("shop").warning("odd", extra={"value": value})
    assert only(logs).attributes["value"] == arrives


@pytest.mark.parametrize("value", [_loop(), {"text": "x" * 10_000_000}, "\ud800"], ids=["loop", "huge", "surrogate"])
def test_an_extreme_extra_never_costs_the_record(logs: Started, value: Any) -> None:
    """A value that contains itself, a huge one, one that is no valid text."""
    logging.getLogger("shop").warning("odd", extra={"value": value, "kept": 1})
    assert only(logs).attributes["kept"] == 1


def test_a_huge_repr_is_cut(logs: Started) -> None:
    """At 4096 characters."""

    class Long:
        def __repr__(self) -> str:
            return "x" * 100_000

    logging.getLogger("shop").warning("odd", extra={"value": Long()})
    assert len(only(logs).attributes["value"]) == 4096


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (("%d", "x"), "%d"),
        (("%s %s", 1), "%s %s"),
        ((Shy(),), "<Shy without a repr>"),
        ((3,), "3"),
        (("100%",), "100%"),
    ],
)
def test_a_call_that_logging_cannot_format_is_exported_all_the_same(
    logs: Started, arguments: tuple[Any, ...], body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application's mistake in a log call is worth a record."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    shop = logging.getLogger("shop")
    shop.propagate = False  # pytest's own handler would raise for it
    shop.addHandler(logging.NullHandler())
    shop.warning(*arguments)
    assert only(logs).body == body


def test_a_log_call_in_a_repr_while_exporting_does_not_recurse(logs: Started) -> None:
    """An object that logs when it is shown."""

    class Chatty:
        def __repr__(self) -> str:
            logging.getLogger("shop").warning("within")
            return "chatty"

    logging.getLogger("shop").warning("outer", extra={"value": Chatty()})
    assert "outer" in bodies(logs)


TASK = {"name": "shop.pay", "id": "7", "runtime": 0.1, "exc": "ValueError('no')", "description": "raised unexpected"}
TASK_VALUES = {"args": "('s3cret',)", "kwargs": "{'card': 's3cret'}", "return_value": "'s3cret'"}
GUNICORN = {"r": "GET /x?token=s3cret HTTP/1.1", "s": "200", "f": "http://shop/y?code=s3cret", "a": "curl/8"}


@pytest.mark.parametrize(
    ("name", "text", "arguments", "body"),
    [
        (
            "uvicorn.access",
            '%s - "%s %s HTTP/%s" %d',
            ("127.0.0.1:5", "GET", "/x?token=s3cret&page=s3cret&flag", "1.1", 200),
            '127.0.0.1:5 - "GET /x?token=REDACTED&page=REDACTED&flag HTTP/1.1" 200',
        ),
        (
            "uvicorn.access",
            '%s - "%s %s HTTP/%s" %d',
            ("127.0.0.1:5", "GET", "/x?a=\"s3cret?b='s3cret%3D=s3cret;c=s3cret", "1.1", 200),
            '127.0.0.1:5 - "GET /x?a=REDACTED HTTP/1.1" 200',
        ),
        (
            "uvicorn.error",
            '%s - "WebSocket %s" [accepted]',
            ("127.0.0.1:5", "/ws?token=s3cret"),
            '127.0.0.1:5 - "WebSocket /ws?token=REDACTED" [accepted]',
        ),
        ("uvicorn.error", "Is it up? No.", (), "Is it up? No."),
        (
            "gunicorn.access",
            '"%(r)s" %(s)s "%(f)s" "%(a)s"',
            (GUNICORN,),
            '"GET /x?token=REDACTED HTTP/1.1" 200 "http://shop/y?code=REDACTED" "curl/8"',
        ),
        (
            "celery.app.trace",
            "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s",
            ({**TASK, **TASK_VALUES},),
            "Task shop.pay[7] succeeded in 0.1s: REDACTED",
        ),
        (
            "celery.app.trace",
            "Task %(name)s[%(id)s] %(description)s: %(exc)s, called with %(args)s %(kwargs)s",
            ({**TASK, **TASK_VALUES},),
            "Task shop.pay[7] raised unexpected: ValueError('no'), called with REDACTED REDACTED",
        ),
        (
            "celery.worker.strategy",
            "Task %(name)s[%(id)s] received: %(args)s",
            ({**TASK, **TASK_VALUES},),
            "Task shop.pay[7] received: REDACTED",
        ),
        (
            "celery.worker.consumer.consumer",
            "Can't decode message body: %r [type:%r encoding:%r headers:%s]\n\nbody: %s\n",
            (UnicodeDecodeError("utf-8", b"s3cret\xff", 6, 7, "no"), "t", "e", "{'argsrepr': 's3cret'}", "s3cret"),
            "Can't decode message body: 'REDACTED' [type:'REDACTED' encoding:'REDACTED' headers:REDACTED]"
            "\n\nbody: REDACTED\n",
        ),
        (
            "celery.pool",
            "TaskPool: Apply %s (args:%s kwargs:%s)",
            ("trace_task", "('s3cret',)", "{'card': 's3cret'}"),
            "TaskPool: Apply trace_task (args:REDACTED kwargs:REDACTED)",
        ),
        ("shop", "/x?page=%d is the application's own", (2,), "/x?page=2 is the application's own"),
    ],
)
def test_lines_of_servers_and_workers_are_exported_without_their_callers_values(
    logs: Started, name: str, text: str, arguments: tuple[Any, ...], body: str
) -> None:
    """Query values and what tasks get and return: in no exported field; the record that is printed keeps them."""
    seen: list[logging.LogRecord] = []

    class Printing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    handler = Printing()
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        extra = {"data": arguments[0]} if name.startswith("celery.") and arguments else None
        logger.warning(text, *arguments, extra=extra)
    finally:
        logger.removeHandler(handler)
    log = only(logs)
    assert log.body == body
    assert "s3cret" not in str(log.record)
    expected = text % (arguments[0] if isinstance(arguments[0], dict) else arguments) if arguments else text
    assert seen[0].getMessage() == expected


@pytest.mark.parametrize("client", ["httpx", "urllib3"])
def test_the_lines_of_http_clients_are_exported_without_query_values(logs: Started, client: str) -> None:
    """httpx tells of each request at INFO, urllib3 (and requests with it) at DEBUG."""
    url = f"{logs.sink.url}/x?token=s3cret&page=2"
    debug = logging.getLogger("urllib3.connectionpool")
    if client == "httpx":
        httpx.get(url)
    else:
        debug.setLevel(logging.DEBUG)
        try:
            urllib3.PoolManager(retries=False).request("GET", url)
        finally:
            debug.setLevel(logging.NOTSET)
    told = [str(body) for body in bodies(logs) if "/x?" in str(body)]
    assert len(told) == 1, bodies(logs)
    assert "/x?token=REDACTED&page=REDACTED" in told[0]
    assert not any("s3cret" in str(log.record) for log in logs.logs())


def test_nothing_is_left_after_the_end(tmp_path: Path) -> None:
    """The three wrapped methods are logging's own again, and INFO is not admitted any more."""

    def methods() -> list[object]:
        return [vars(logging.Logger)[name] for name in ("getEffectiveLevel", "makeRecord", "callHandlers")]

    before = methods()
    with started(tmp_path, instrument={"logging": "otelkit"}):
        assert logging.getLogger("shop").isEnabledFor(logging.INFO)
        assert not any(now is earlier for now, earlier in zip(methods(), before, strict=True))
    assert methods() == before
    assert not logging.getLogger("shop").isEnabledFor(logging.INFO)


def test_caplog_sees_what_it_would_see(logs: Started, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing more by default, and what its level admits."""
    shop = logging.getLogger("shop")
    shop.info("admitted for the export alone")
    shop.warning("shown")
    assert [record.getMessage() for record in caplog.records] == ["shown"]
    with caplog.at_level(logging.DEBUG):
        shop.debug("debug")
    assert caplog.messages[-1] == "debug"
    with caplog.at_level(logging.INFO, "shop"):
        shop.info("info")
    assert caplog.messages == ["shown", "debug", "info"]
    assert bodies(logs) == ["admitted for the export alone", "shown", "debug", "info"]


# -- what the application prints: each program runs with and without otelkit

SCENES = {
    "nothing configured": "",
    "basicConfig before": "logging.basicConfig(format='%(levelname)s|%(name)s|%(message)s')\nSTART",
    "basicConfig after": "START\nlogging.basicConfig(format='%(levelname)s|%(name)s|%(message)s', level=logging.DEBUG)",
    "basicConfig after a record": (
        "START\nlogging.getLogger('early').warning('early')\nlogging.basicConfig(format='%(levelname)s|%(message)s')"
    ),
    "dictConfig after": """
START
logging.config.dictConfig({
    "version": 1,
    "formatters": {"f": {"format": "%(name)s %(levelno)s %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f", "level": "INFO"}},
    "root": {"handlers": ["h"], "level": "ERROR"},
    "loggers": {"shop": {"level": "DEBUG"}, "apart": {"handlers": ["h"], "propagate": False}},
})
""",
    "levels": """
logging.basicConfig(level=logging.ERROR)
START
logging.getLogger("shop").setLevel(logging.INFO)
logging.getLogger("shop.orders").setLevel(logging.CRITICAL)
""",
    "celery's way": """
logging.basicConfig()
START
root = logging.getLogger()
root.handlers = []
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("worker: %(message)s"))
root.addHandler(handler)
root.setLevel(logging.INFO)
""",
    "a handler that sees everything": """
START
handler = logging.StreamHandler()
handler.setLevel(1)
logging.getLogger().addHandler(handler)
""",
    "records of other processes": """
logging.basicConfig(format='%(levelname)s|%(name)s|%(message)s')
START
for level in (10, 20, 30):
    record = logging.LogRecord("remote", level, "f", 1, "handled %s", (level,), None)
    logging.getLogger("remote").handle(record)
""",
}
SPEAK = """
for name in ("", "shop", "shop.orders", "apart", "remote"):
    logger = logging.getLogger(name)
    for level in (5, 10, 20, 25, 30, 40, 50):
        logger.log(level, "%s at %s", name, level, extra={"x": object()})
    try:
        raise ValueError(name)
    except ValueError:
        logger.exception("failed")
logging.getLogger("shop").error("wrong %d", "format")
"""


def program(scene: str, *, with_otelkit: bool) -> str:
    """A program that configures logging and then logs at every level from several loggers."""
    start = "otelkit.bootstrap('x', otel_log_level='critical')" if with_otelkit else "pass"
    source = scene if "START" in scene else "START\n" + scene
    end = "otelkit.shutdown(0.0)" if with_otelkit else ""
    return "\n".join(
        (
            "import logging, logging.config",
            "import otelkit",
            textwrap.dedent(source).replace("START", start),
            SPEAK,
            end,
        )
    )


@pytest.mark.parametrize("scene", SCENES)
def test_what_the_application_prints_is_the_same_byte_for_byte(tmp_path: Path, scene: str) -> None:
    """With and without telemetry, in every way to configure logging."""
    (tmp_path / "app.py").write_text("")
    plain = run_python(program(SCENES[scene], with_otelkit=False), cwd=tmp_path)
    told = run_python(program(SCENES[scene], with_otelkit=True), cwd=tmp_path)
    printed, _, report = plain.err.partition("--- Logging error ---")
    printed_too, _, report_too = told.err.partition("--- Logging error ---")
    assert len(printed.splitlines()) > 3
    assert printed_too == printed
    # logging's own report of a wrong format shows the stack first, in which the wrapped method is one frame more.
    assert report_too.partition("Message: ")[2] == report.partition("Message: ")[2] != ""
    assert told.out == plain.out


@pytest.mark.parametrize("engine", ["otelkit", "sdk"])
def test_a_trace_that_is_not_sampled_is_named_and_makes_no_exemplar(tmp_path: Path, engine: str) -> None:
    """A record within it has its ids and says that it is not sampled; a measurement has no exemplar of it."""
    with started(tmp_path, engine=engine, traces_sampler="always_off", instrument={"logging": "otelkit"}) as exported:
        with otelkit.span("one") as span:
            context = span.get_span_context()
            logging.getLogger("shop").warning("within")
            otelkit.count("visits")
            otelkit.distribution("size", 3)
        (log,) = [log for log in exported.logs() if log.body == "within"]
    assert context.is_valid
    assert log.record.trace_id == context.trace_id.to_bytes(16, "big")
    assert log.record.span_id == context.span_id.to_bytes(8, "big")
    assert log.record.flags & 1 == 0
    points = [point for metric in exported.sink.metrics if metric.name in ("visits", "size") for point in metric.points]
    assert len(points) >= 2
    assert not any(point.exemplars for point in points)
