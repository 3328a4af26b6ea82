"""Exceptions are one log record each, with marks on the spans they pass, and a fingerprint that stays."""

from __future__ import annotations

import logging
import textwrap
import traceback
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException as FastApiHTTPException
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from starlette.exceptions import HTTPException

import otelkit
from otelkit.signals import exceptions
from tests.support.started import Started, started

HEX = set("0123456789abcdef")


def exceptions_of(exported: Started) -> list[dict[str, Any]]:
    """The attributes of every record that carries a stack trace."""
    return [log.attributes for log in exported.logs() if "exception.stacktrace" in log.attributes]


def test_one_record_however_many_spans_an_exception_passes(exported: Started) -> None:
    """Each span is marked; the record belongs to the innermost; it is ERROR, with type, message, stack, fingerprint."""
    with pytest.raises(ValueError, match="bad"), otelkit.span("outer"), otelkit.span("middle"), otelkit.span("inner"):
        raise ValueError("bad price")
    spans = exported.spans()
    assert {span.span.status.code for span in spans.values()} == {Status.STATUS_CODE_ERROR}
    assert {span.attributes["error.type"] for span in spans.values()} == {"ValueError"}
    (log,) = exported.logs()
    assert log.record.event_name == "exception"
    assert log.record.severity_text == "ERROR"
    assert log.body == "ValueError: bad price"
    assert log.record.span_id.hex() == spans["inner"].span_id
    found = log.attributes
    assert (found["exception.type"], found["exception.message"]) == ("ValueError", "bad price")
    assert "raise ValueError" in found["exception.stacktrace"]
    assert len(found["otelkit.error.fingerprint"]) == 16
    assert set(found["otelkit.error.fingerprint"]) <= HEX


def test_logger_exception_in_between_makes_no_second_stack_trace(tmp_path: Path) -> None:
    """Whoever is first writes the stack; the other one refers to it by the fingerprint."""
    with started(tmp_path, instrument={"logging": "otelkit"}) as exported:
        log = logging.getLogger("shop.orders")

        def fail() -> None:
            with otelkit.span("inner"):
                raise ValueError("bad")

        try:
            with otelkit.span("outer"):
                try:
                    fail()
                except ValueError:
                    log.exception("could not place")
                    raise
        except ValueError:
            log.exception("giving up")
        (only,) = exceptions_of(exported)
        records = exported.logs()
        assert [record.body for record in records] == ["ValueError: bad", "could not place", "giving up"]
        assert {record.attributes["otelkit.error.fingerprint"] for record in records} == {
            only["otelkit.error.fingerprint"]
        }


def test_logger_exception_first_is_the_record(tmp_path: Path) -> None:
    """An exception that was logged before it left its span is not recorded again."""
    with started(tmp_path, instrument={"logging": "otelkit"}) as exported:

        def fail() -> None:
            try:
                raise ValueError("bad")
            except ValueError:
                logging.getLogger("shop").exception("failed")
                raise

        with pytest.raises(ValueError, match="bad"), otelkit.span("outer"):
            fail()
        assert len(exceptions_of(exported)) == 1
        assert [record.body for record in exported.logs()] == ["failed"]
        assert exported.spans()["outer"].span.status.code == Status.STATUS_CODE_ERROR


def test_a_handled_exception_is_a_warning_once_and_leaves_the_span_alone(exported: Started) -> None:
    """With attributes of the caller's; the fingerprint is returned; a second call adds nothing."""
    with otelkit.span("quote"):
        try:
            raise LookupError("no price")
        except LookupError as error:
            first = otelkit.exception(sku="a")
            second = otelkit.exception(error)
    assert first == second
    (log,) = exported.logs()
    assert log.record.severity_text == "WARN"
    assert log.attributes["sku"] == "a"
    assert log.attributes["otelkit.error.fingerprint"] == first
    assert exported.spans()["quote"].span.status.code == Status.STATUS_CODE_UNSET


def test_an_unhandled_one_is_an_error(exported: Started) -> None:
    """`_handled=False` says that nobody dealt with it."""
    otelkit.exception(ValueError("never raised"), _handled=False)
    (log,) = exported.logs()
    assert log.record.severity_text == "ERROR"


@pytest.mark.parametrize("name", ["severity", "error", "extra", "message", "exc", "span", "attributes", "known"])
def test_any_attribute_name_is_free_for_the_caller(exported: Started, name: str) -> None:
    """No parameter inside of otelkit is in the way of an attribute."""
    otelkit.exception(ValueError("x"), **{name: "mine"})  # type: ignore[arg-type]
    (log,) = exported.logs()
    assert log.attributes[name] == "mine"


def test_without_an_exception_there_is_an_error_that_says_what_to_do() -> None:
    """The only thing that `exception` raises."""
    with pytest.raises(ValueError, match="call it in an except block or pass one"):
        otelkit.exception()


@pytest.mark.parametrize("kind", [HTTPException, FastApiHTTPException])
@pytest.mark.parametrize("status", [204, 302, 404, 422])
def test_an_answer_is_no_error(exported: Started, kind: type[HTTPException], status: int) -> None:
    """Starlette's and FastAPI's HTTPException below 500 marks nothing and makes no record."""
    with pytest.raises(HTTPException), otelkit.span("handler"):
        raise kind(status)
    span = exported.spans()["handler"]
    assert span.span.status.code == Status.STATUS_CODE_UNSET
    assert "error.type" not in span.attributes
    assert len(span.span.events) == 0
    assert exported.logs() == []


@pytest.mark.parametrize("kind", [HTTPException, FastApiHTTPException])
def test_a_server_errors_answer_is_an_error(exported: Started, kind: type[HTTPException]) -> None:
    """From 500 on."""
    with pytest.raises(HTTPException), otelkit.span("handler"):
        raise kind(500)
    assert exported.spans()["handler"].span.status.code == Status.STATUS_CODE_ERROR
    assert len(exported.logs()) == 1


class Unprintable(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_an_exception_without_a_text_passes_on_as_itself(exported: Started) -> None:
    """What otelkit records must not replace the application's exception."""
    with pytest.raises(Unprintable), otelkit.span("quote"):
        raise Unprintable
    span = exported.spans()["quote"]
    assert span.attributes["error.type"].endswith("Unprintable")
    assert span.span.status.code == Status.STATUS_CODE_ERROR
    (log,) = exported.logs()
    assert log.attributes["exception.type"].endswith("Unprintable")


def test_logging_an_exception_without_a_text_exports_the_record(tmp_path: Path) -> None:
    """The log line is worth more than the text that could not be made."""
    with started(tmp_path, instrument={"logging": "otelkit"}) as exported:
        log = logging.getLogger("shop")
        handler = logging.NullHandler()
        log.addHandler(handler)
        log.propagate = False
        try:
            raise Unprintable
        except Unprintable as error:
            log.exception("failed")
            log.error(error)
        finally:
            log.removeHandler(handler)
            log.propagate = True
        assert [record.body for record in exported.logs()][:1] == ["failed"]
        assert len(exported.logs()) == 2


def test_a_cause_is_in_the_stack_trace(exported: Started) -> None:
    """The chain that led there is part of the record."""
    with pytest.raises(RuntimeError), otelkit.span("quote"):
        raise RuntimeError("second") from KeyError("first")
    (found,) = exceptions_of(exported)
    assert "KeyError: 'first'" in found["exception.stacktrace"]
    assert "RuntimeError: second" in found["exception.stacktrace"]


def test_the_same_class_raised_twice_is_two_records(exported: Started) -> None:
    """Deduplication is by exception object, not by kind."""
    for _ in range(2):
        with pytest.raises(ValueError, match="again"), otelkit.span("quote"):
            raise ValueError("again")
    assert len(exceptions_of(exported)) == 2


def test_with_the_opt_in_for_logs_alone_there_is_no_span_event(tmp_path: Path) -> None:
    """OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs; the next start without it has the event again."""
    for opt_in, events in (("logs", 0), ("logs/dup", 1), ("", 1)):
        with started(tmp_path / "state", exception_signal=opt_in) as exported:
            with pytest.raises(ValueError, match="bad"), otelkit.span("quote"):
                raise ValueError("bad")
            assert len(exported.spans()["quote"].span.events) == events, opt_in
            assert len(exceptions_of(exported)) == 1


def raised_by(source: str, path: Path) -> BaseException:
    """The exception that a module's `fail()` raises."""
    path.write_text(textwrap.dedent(source))
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    try:
        space["fail"]()
    except BaseException as error:  # noqa: BLE001 - it is what the test wants
        return error
    raise AssertionError("it did not fail")


BODY = """
def price(sku):
    raise ValueError(f"no price for {sku}")

def fail():
    price(SKU)
"""


def test_the_fingerprint_survives_edits_above_and_other_messages(tmp_path: Path) -> None:
    """Lines may move and texts differ: it is the same error at the same place."""
    first = exceptions.fingerprint(raised_by("SKU = 1\n" + BODY, tmp_path / "shop.py"))
    moved = exceptions.fingerprint(raised_by("import os\n\n\nSKU = 'other'\n" + BODY, tmp_path / "shop.py"))
    assert first == moved
    deployed = tmp_path / "release-2"
    deployed.mkdir()
    assert exceptions.fingerprint(raised_by("SKU = 1\n" + BODY, deployed / "shop.py")) == first


def test_the_fingerprint_tells_types_and_places_apart(tmp_path: Path) -> None:
    """Another type, another function or another file is another error."""
    variants = {
        "same": BODY,
        "type": BODY.replace("ValueError", "KeyError"),
        "function": BODY.replace("price(", "cost("),
    }
    found = {
        name: exceptions.fingerprint(raised_by("SKU = 1\n" + body, tmp_path / "shop.py"))
        for name, body in variants.items()
    }
    found["file"] = exceptions.fingerprint(raised_by("SKU = 1\n" + BODY, tmp_path / "basket.py"))
    assert len(set(found.values())) == 4, found


def test_frames_of_libraries_do_not_decide_the_fingerprint(tmp_path: Path) -> None:
    """A library's own update does not make a new error of an old one."""
    source = "import json\ndef fail():\n    json.loads('{')\n"
    error = raised_by(source, tmp_path / "shop.py")
    names = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert any("json" in name for name in names)
    cut = error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None)
    while cut.__traceback__ is not None and cut.__traceback__.tb_frame.f_code.co_filename != str(tmp_path / "shop.py"):
        cut = cut.with_traceback(cut.__traceback__.tb_next)
    whole = exceptions.fingerprint(raised_by(source, tmp_path / "shop.py"))
    inner = raised_by("def fail():\n    raise __import__('json').JSONDecodeError('x', 'y', 0)\n", tmp_path / "shop.py")
    assert exceptions.fingerprint(inner) == whole


def test_an_exception_that_was_never_raised_has_a_fingerprint() -> None:
    """No traceback is no reason to fail."""
    assert set(exceptions.fingerprint(ValueError("x"))) <= HEX


def test_the_name_of_a_type_is_qualified_but_for_builtins() -> None:
    """As the semantic conventions ask for."""
    assert exceptions.type_name(ValueError()) == "ValueError"
    assert exceptions.type_name(HTTPException) == "starlette.exceptions.HTTPException"
    assert exceptions.type_name(Unprintable).endswith("test_exceptions.Unprintable")
