"""OTELKIT_LOG_FORMAT=json: one JSON object a line, from every stream handler of the root logger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import run_python

BEGIN = """
import logging, logging.config, sys
import otelkit
otelkit.bootstrap("shop", log_format="json", otel_log_level="critical"%s)
"""


def printed(tmp_path: Path, source: str, settings: str = "", *, before: str = "") -> list[dict[str, Any]]:
    """What a program prints to stderr, each line parsed."""
    program = before + "\n" + BEGIN % (f", {settings}" if settings else "") + source + "\notelkit.shutdown(0.0)\n"
    return [json.loads(line) for line in run_python(program, cwd=tmp_path).err.splitlines()]


def test_a_line_has_the_documented_fields(tmp_path: Path) -> None:
    """Timestamp, level, logger, message, place; those that are not there are left out."""
    (line,) = printed(tmp_path, "logging.getLogger('shop.orders').warning('order %s', 7)")
    assert set(line) == {"timestamp", "level", "logger", "message", "module", "function", "line"}
    assert (line["level"], line["logger"], line["message"]) == ("WARNING", "shop.orders", "order 7")
    assert line["timestamp"].endswith("Z")
    assert len(line["timestamp"]) == len("2026-11-21T12:00:00.000Z")


def test_ids_of_the_trace_and_bound_values_are_in_it(tmp_path: Path) -> None:
    """The way from a line on a console to a trace."""
    (line,) = printed(
        tmp_path,
        """
otelkit.bind(user_id=7, request_id="r-1")
with otelkit.span("x") as span:
    logging.getLogger("shop").error("seen")
    sys.stdout.write(f"{span.get_span_context().trace_id:032x}")
""",
    )
    assert (line["user.id"], line["request_id"]) == (7, "r-1")
    assert (len(line["trace_id"]), len(line["span_id"])) == (32, 16)


def test_exceptions_and_extras_are_in_one_line(tmp_path: Path) -> None:
    """Newlines are escaped; what has no JSON form becomes its text."""
    (line,) = printed(
        tmp_path,
        """
try:
    raise ValueError("bad\\nprice")
except ValueError:
    logging.getLogger("shop").exception("failed", extra={"sku": "ü", "thing": {1, 2}, "deep": {"a": [1]}})
""",
    )
    assert "ValueError: bad\nprice" in line["exception"]
    assert line["extra"]["sku"] == "ü"
    assert line["extra"]["deep"] == {"a": [1]}
    assert line["extra"]["thing"] == "{1, 2}"


ODD = """
class Shy:
    def __repr__(self): raise RuntimeError("no text")
    __str__ = __repr__
loop = []
loop.append(loop)
log = logging.getLogger("shop")
for value in (Shy(), loop, {3: 4}, {(1, 2): 3}, b"\\xff", float("nan"), "\\ud800", 1 << 70):
    log.warning("odd", extra={"value": value})
"""


def test_every_extra_gives_a_line(tmp_path: Path) -> None:
    """A value that cannot be written costs itself, not the line."""
    finished = run_python(BEGIN % "" + ODD + "\notelkit.shutdown(0.0)\n", cwd=tmp_path)
    lines = finished.err.splitlines()
    assert len(lines) == 8, finished.err
    for line in lines:
        assert json.loads(line)["message"] == "odd"


def test_query_values_and_what_tasks_get_are_in_no_line(tmp_path: Path) -> None:
    """JSON lines go to a log pipeline: they say what the export says."""
    lines = printed(
        tmp_path,
        """
logging.getLogger("uvicorn.access").warning('%s - "%s %s HTTP/%s" %d', "h", "GET", "/x?token=s3cret", "1.1", 200)
task = {"name": "pay", "id": "7", "runtime": 0.1, "return_value": "s3cret", "args": "s3cret"}
trace = logging.getLogger("celery.app.trace")
trace.warning("Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s", task, extra={"data": task})
""",
    )
    assert [line["message"] for line in lines] == [
        'h - "GET /x?token=REDACTED HTTP/1.1" 200',
        "Task pay[7] succeeded in 0.1s: REDACTED",
    ]
    assert "s3cret" not in json.dumps(lines)


@pytest.mark.parametrize("handled", [False, True], ids=["by our own handler", "by the application's"])
def test_otelkits_own_lines_are_json_too(tmp_path: Path, handled: bool) -> None:
    """The line at the start, a WARNING about a setting and what is said at the end, with renamed fields."""
    source = f"""
import logging, sys
if {handled}:
    logging.basicConfig(level=logging.INFO)
import otelkit
otelkit.bootstrap("shop", log_format="json", log_fields={{"level": "severity"}}, disabled_instrumentations="nothing")
with otelkit.span("x"):
    pass
otelkit.shutdown(0.0)
otelkit.bootstrap("shop", log_format="unchanged")
"""
    environ = {"OTEL_CONFIG_FILE": "x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTELKIT_SPOOL": "off"}
    lines = run_python(source, cwd=tmp_path, environ=environ).err.splitlines()
    json_lines = [json.loads(line) for line in lines if line.startswith("{")]
    told = [(line["severity"], line["logger"], line["message"]) for line in json_lines]
    assert any(level == "WARNING" and name == "otelkit" and "OTEL_CONFIG_FILE" in text for level, name, text in told)
    assert any(level == "INFO" and text.startswith("otelkit ") for level, name, text in told)
    assert any("could not be delivered" in text for level, name, text in told if name == "otelkit.delivery")
    second = [line for line in lines if not line.startswith("{")]
    assert all("otelkit" in line for line in second), second
    assert lines.index(second[0]) >= 3


def test_otelkits_own_lines_are_json_where_logging_is_not_instrumented(tmp_path: Path) -> None:
    """The setting is about what is printed; whether records are exported is another."""
    source = "import otelkit\notelkit.bootstrap('x', log_format='json', disabled_instrumentations='*')"
    lines = [json.loads(line) for line in run_python(source, cwd=tmp_path).err.splitlines()]
    assert (lines[0]["level"], lines[0]["logger"]) == ("INFO", "otelkit")


def test_fields_can_be_renamed(tmp_path: Path) -> None:
    """For log pipelines with names of their own."""
    (line,) = printed(
        tmp_path, "logging.getLogger('shop').warning('x')", "log_fields={'timestamp': '@timestamp', 'message': 'msg'}"
    )
    assert "@timestamp" in line
    assert line["msg"] == "x"
    assert not {"timestamp", "message"} & set(line)


def test_a_message_that_is_a_mapping_is_still_one_object(tmp_path: Path) -> None:
    """`logger.info({"a": 1})` is common beside JSON formatters; the documented fields stay what they are."""
    (line,) = printed(tmp_path, "logging.getLogger('shop').warning({'a': 1, 'level': 'mine'})")
    assert line["level"] == "WARNING"
    assert line["logger"] == "shop"


def test_handlers_that_are_there_keep_their_stream_and_get_the_format(tmp_path: Path) -> None:
    """basicConfig before bootstrap."""
    before = "import logging, sys\nlogging.basicConfig(stream=sys.stdout, level=logging.INFO, format='%(message)s')"
    program = before + BEGIN % "" + "logging.getLogger('shop').info('hello')\notelkit.shutdown(0.0)"
    finished = run_python(program, cwd=tmp_path)
    assert finished.err == ""
    assert json.loads(finished.out)["message"] == "hello"


@pytest.mark.parametrize("early", ["", "logging.getLogger('early').warning('early')\n"])
def test_basicconfig_after_bootstrap_works_as_ever(tmp_path: Path, early: str) -> None:
    """Its level and its stream count, also where a record came before it; every line is JSON."""
    source = (
        early + "logging.basicConfig(stream=sys.stdout, level=logging.DEBUG)\nlogging.getLogger('shop').debug('hello')"
    )
    finished = run_python(BEGIN % "" + source + "\notelkit.shutdown(0.0)", cwd=tmp_path)
    assert [json.loads(line)["message"] for line in finished.out.splitlines()] == ["hello"]
    assert [json.loads(line)["message"] for line in finished.err.splitlines()] == (["early"] if early else [])


def test_dictconfig_after_bootstrap_gets_the_format(tmp_path: Path) -> None:
    """Each handler that writes to a stream, uvicorn's too, and no line twice."""
    source = """
logging.getLogger("early").warning("early")
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"h": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}},
    "root": {"handlers": ["h"], "level": "INFO"},
    "loggers": {"uvicorn.access": {"handlers": ["h"], "propagate": False, "level": "INFO"}},
})
logging.getLogger("shop").info("one")
logging.getLogger("uvicorn.access").info("two")
"""
    assert [line["message"] for line in printed(tmp_path, source)] == ["early", "one", "two"]


def test_the_levels_that_are_printed_do_not_change(tmp_path: Path) -> None:
    """INFO is exported and not printed, as before."""
    source = "logging.getLogger('shop').info('quiet')\nlogging.getLogger('shop').warning('loud')"
    assert [line["message"] for line in printed(tmp_path, source)] == ["loud"]


def test_file_handlers_are_left_alone_or_formatted_like_the_others(tmp_path: Path) -> None:
    """Whatever it is, a line in a file is one line."""
    source = """
logging.basicConfig(filename="app.log", level=logging.INFO, format="%(message)s")
logging.getLogger("shop").info("to the file")
"""
    assert printed(tmp_path, source) == []
    assert "to the file" in (tmp_path / "app.log").read_text()


def test_shutdown_gives_every_handler_its_own_format_back(tmp_path: Path) -> None:
    """And takes the added one away."""
    source = (
        BEGIN % ""
        + """
logging.getLogger("shop").warning("json")
otelkit.shutdown(0.0)
assert logging.getLogger().handlers == [], logging.getLogger().handlers
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("plain %(message)s"))
logging.getLogger().addHandler(handler)
logging.getLogger("shop").warning("one")
otelkit.bootstrap("shop", log_format="json", otel_log_level="critical")
logging.getLogger("shop").warning("two")
otelkit.shutdown(0.0)
logging.getLogger("shop").warning("three")
"""
    )
    lines = run_python(source, cwd=tmp_path).out.splitlines()
    assert lines[0] == "plain one"
    assert json.loads(lines[1])["message"] == "two"
    assert lines[2] == "plain three"


def test_without_the_setting_nothing_is_formatted(tmp_path: Path) -> None:
    """The default leaves handlers alone."""
    source = """
import logging, otelkit
otelkit.bootstrap('x', otel_log_level='critical')
logging.warning('plain')
otelkit.shutdown(0.0)
"""
    assert run_python(source, cwd=tmp_path).err == "WARNING:root:plain\n"
