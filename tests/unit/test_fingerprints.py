"""Fingerprints of errors: thirty variants of six errors have six; what is another error has another one."""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

import otelkit
from otelkit.signals import exceptions
from otelkit.signals.fingerprints import fingerprint
from tests.support.started import started

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

ERRORS = {
    "plain": """
def price(order):
    raise ValueError(f"no price for order {order}")
def fail(order, depth):
    price(order)
""",
    "in a library": """
import json
def fail(order, depth):
    return [json.loads("{" * size) for size in (depth,)]
""",
    "chained": """
class Unavailable(Exception): pass
def connect(order):
    raise ConnectionRefusedError(f"127.0.0.1:{order}")
def fail(order, depth):
    try:
        connect(order)
    except OSError as error:
        raise Unavailable(f"order {order} at {id(error):#x}") from error
""",
    "group": """
import asyncio
def check(order):
    raise (LookupError if order % 2 else KeyError)(order)
async def one(order):
    check(order)
def fail(order, depth):
    async def both():
        results = await asyncio.gather(*(one(order + each) for each in range(depth)), return_exceptions=True)
        raise ExceptionGroup(f"{len(results)} of order {order}", results)
    asyncio.run(both())
""",
    "recursion": """
def leaf(node):
    return str(node)
def down(node, order):
    leaf(node)
    return across(node + 1, order)
def across(node, order):
    return down(node, order)
def fail(order, depth):
    down(0, order)
""",
    "deep": """
def walk(order, depth):
    if not depth:
        raise RuntimeError(f"tree {order} has no leaf")
    walk(order, depth - 1)
def fail(order, depth):
    walk(order, depth)
""",
}
HEADS = ("", "import os\n\n\n", "# a new head\n" * 40, "CONSTANT = 1\ndef other():\n    return CONSTANT\n", "\n")


def module(folder: Path, source: str) -> ModuleType:
    """A deployed version of an application's module."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "shop.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("shop", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    if sys.version_info < (3, 11):
        vars(found)["ExceptionGroup"] = ExceptionGroup
    spec.loader.exec_module(found)
    return found


def test_thirty_variants_of_six_errors_have_six_fingerprints(tmp_path: Path) -> None:
    """Lines moved, another folder, other ids in the texts, other depths, recorded by a span further out or in."""
    with started(tmp_path / "state", service_version="2.0") as exported:
        for name, source in ERRORS.items():
            for number, head in enumerate(HEADS):
                version = module(tmp_path / f"release-{number}" / name, head + textwrap.dedent(source))
                inner = otelkit.traced("inner")(version.fail) if number % 2 else version.fail
                fail = otelkit.traced("outer")(inner) if number else inner
                try:
                    fail(1000 + 7 * number, 2 + number)
                except Exception as error:  # noqa: BLE001 - it is what the test wants
                    otelkit.exception(error, of=name)
        for log in exported.logs():
            assert log.resource["service.version"] == "2.0"
        found = defaultdict(set)
        kinds = [log.attributes for log in exported.logs()]
        assert len(kinds) == 30
        for kind in kinds:
            found[kind["otelkit.error.fingerprint"]].add(kind["exception.type"])
        assert len(found) == 6, found
        assert all(len(types) == 1 for types in found.values())


def caught(call: object) -> BaseException:
    """What a call raises."""
    try:
        call()  # type: ignore[operator]
    except BaseException as error:  # noqa: BLE001 - it is what the test wants
        return error
    raise AssertionError("it did not fail")


def raising(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """An exception that was raised here."""

    def place() -> None:
        raise error from cause

    return caught(place)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (raising(ValueError()), raising(TypeError())),
        (raising(ValueError(), KeyError()), raising(ValueError(), IndexError())),
        (raising(ValueError(), KeyError()), raising(ValueError())),
        (raising(ExceptionGroup("", [KeyError()])), raising(ExceptionGroup("", [IndexError()]))),
    ],
    ids=["type", "cause", "no cause", "member"],
)
def test_another_error_has_another_fingerprint(one: BaseException, other: BaseException) -> None:
    """By its type, its cause's type, or its members' types."""
    assert fingerprint(one) != fingerprint(other)


def test_the_caller_belongs_to_it_and_the_program_around_does_not() -> None:
    """Two callers of one function are two errors; who called the library that calls back is not looked at."""

    def fail(*_: object) -> str:
        raise ValueError

    def one() -> None:
        fail()

    def other() -> None:
        fail()

    def called_back() -> None:
        re.sub("x", fail, "x")

    def called_back_elsewhere() -> None:
        re.sub("x", fail, "x")

    assert fingerprint(caught(one)) != fingerprint(caught(other))
    assert fingerprint(caught(called_back)) == fingerprint(caught(called_back_elsewhere))


def test_where_an_exception_was_recorded_does_not_matter() -> None:
    """In the innermost function or in the outermost."""
    inner: list[str] = []

    def price() -> None:
        try:
            raise ValueError
        except ValueError as error:
            inner.append(fingerprint(error))
            raise

    def order() -> None:
        price()

    def request() -> None:
        order()

    assert fingerprint(caught(request)) == inner[0]


def test_causes_in_a_circle_and_groups_in_groups_end() -> None:
    """However an exception is put together."""
    first, second = raising(ValueError()), raising(KeyError())
    first.__cause__, second.__cause__ = second, first
    assert len(fingerprint(first)) == 16
    nested: Exception = ValueError()
    for _ in range(200):
        nested = ExceptionGroup("", [nested, nested])
    assert len(fingerprint(nested)) == 16


def test_the_stack_trace_of_a_recursion_keeps_both_ends() -> None:
    """The middle is left out: no value may be as long, and what would be cut off is where it failed."""

    def there(depth: int) -> None:
        if depth:
            back(depth - 1)
        raise LookupError("at the end")

    def back(depth: int) -> None:
        there(depth)

    text = exceptions.stack_trace(caught(lambda: there(450)))
    assert len(text) < 33_000
    assert text.startswith("Traceback")
    assert text.endswith("LookupError: at the end\n")
    assert " characters …" in text
