"""`otelkit.traced`: a span around every call, whatever kind of function it is."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import otelkit
from tests.support.started import Started


def current() -> str:
    """The name of the current span, empty where there is none."""
    return getattr(trace.get_current_span(), "name", "")


def ended_in_error(span: Any) -> bool:
    """Whether the span was marked as failed."""
    return bool(span.span.status.code == Status.STATUS_CODE_ERROR)


def test_a_function_is_named_by_its_qualified_name_and_keeps_its_signature(exported: Started) -> None:
    """Bare or called with nothing it does the same."""

    @otelkit.traced
    def bare(a: int, *, b: int = 2) -> int:
        """Doc."""
        assert current().endswith("bare")
        return a + b

    @otelkit.traced()
    def called() -> None: ...

    assert bare(1) == 3
    called()
    assert (bare.__name__, bare.__doc__, str(inspect.signature(bare))) == (
        "bare",
        "Doc.",
        "(a: 'int', *, b: 'int' = 2) -> 'int'",
    )
    prefix = "test_a_function_is_named_by_its_qualified_name_and_keeps_its_signature.<locals>."
    assert set(exported.spans()) == {f"{prefix}bare", f"{prefix}called"}


def test_name_kind_and_listed_arguments(exported: Started) -> None:
    """Only what is listed becomes an attribute, defaults included; what has no OTLP type becomes its text."""

    @otelkit.traced("quote", _record=("sku", "amount", "options", "self_"), _kind="client")
    def quote(sku: str, secret: str, amount: int = 1, *, options: Any = None, self_: Any = None) -> None: ...

    quote("a", "hidden", options={"x": 1})
    span = exported.spans()["quote"]
    assert span.attributes == {"sku": "a", "amount": 1, "options": "{'x': 1}", "self_": "None"}
    assert span.span.kind == Span.SPAN_KIND_CLIENT


def test_an_unknown_argument_name_is_found_at_decoration() -> None:
    """The mistake shows when the module is imported, not when a request comes."""
    with pytest.raises(TypeError, match=r"'skuu' in _record is no parameter of .*quote\(sku\)"):

        @otelkit.traced(_record=("skuu",))
        def quote(sku): ...  # type: ignore[no-untyped-def]


def test_recording_an_argument_without_a_repr_does_not_fail_the_call(exported: Started) -> None:
    """Telemetry about an argument must not be able to break the function."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    @otelkit.traced("quote", _record=("thing",))
    def quote(thing: object) -> str:
        return "done"

    assert quote(Shy()) == "done"
    assert "quote" in exported.spans()


def test_wrong_arguments_raise_the_functions_own_error(exported: Started) -> None:
    """A TypeError as without the decorator, and the next call works."""

    @otelkit.traced("quote", _record=("sku",))
    def quote(sku: str) -> str:
        return sku

    for arguments in ((), ("a", "b")):
        with pytest.raises(TypeError, match="argument"):
            quote(*arguments)
    with pytest.raises(TypeError, match="argument"):
        quote(colour="red")  # type: ignore[call-arg]
    assert quote("a") == "a"


def test_methods_of_all_kinds(exported: Started) -> None:
    """Instance, class and static methods, in the order in which people stack decorators."""

    class Shop:
        @otelkit.traced
        def method(self, x: int) -> int:
            return x

        @classmethod
        @otelkit.traced
        def of_class(cls, x: int) -> int:
            assert cls is Shop
            return x

        @staticmethod
        @otelkit.traced
        def static(x: int) -> int:
            return x

        @otelkit.traced
        @staticmethod
        def static_below(x: int) -> int:
            return x

        @otelkit.traced
        @classmethod
        def of_class_below(cls, x: int) -> int:
            assert cls is Shop
            return x

    shop: Any = Shop()
    results = [shop.method(1), shop.of_class(2), shop.static(3), shop.static_below(4), shop.of_class_below(5)]
    assert results == [1, 2, 3, 4, 5]
    assert {name.rpartition(".")[2] for name in exported.spans()} == {
        "method",
        "of_class",
        "static",
        "static_below",
        "of_class_below",
    }


def test_something_that_is_no_function_is_refused() -> None:
    """`@otelkit.traced(3)` fails where it stands."""
    with pytest.raises(TypeError, match="traced"):
        otelkit.traced(3)  # type: ignore[call-overload]


def test_a_coroutine_is_current_over_its_awaits(exported: Started) -> None:
    """Also beside others; the function stays a coroutine function."""

    @otelkit.traced("outer")
    async def outer(number: int) -> int:
        await asyncio.sleep(0)
        assert current() == "outer"
        with otelkit.span("inner"):
            await asyncio.sleep(0)
        return number

    async def all_of_them() -> list[int]:
        return list(await asyncio.gather(*(outer(number) for number in range(10))))

    assert inspect.iscoroutinefunction(outer)
    assert asyncio.run(all_of_them()) == list(range(10))
    sink = exported.flush()
    outers = {span.span_id: span.trace_id for span in sink.named("outer")}
    assert len(outers) == 10
    for inner in sink.named("inner"):
        assert outers[inner.parent_id] == inner.trace_id


# -- generators


def test_a_generators_span_lives_from_its_first_step_to_its_end(exported: Started) -> None:
    """It is current in the body and never between the steps; the return value and sent values pass through."""

    @otelkit.traced("rows")
    def rows() -> Generator[int, str, str]:
        assert current() == "rows"
        got = yield 1
        assert got == "sent"
        with otelkit.span("inside"):
            yield 2
        return "end"

    assert inspect.isgeneratorfunction(rows)
    generator = rows()
    with otelkit.span("consumer"):
        assert next(generator) == 1
        assert current() == "consumer"
        assert generator.send("sent") == 2
        assert current() == "consumer"
        with pytest.raises(StopIteration) as stop:
            next(generator)
        assert stop.value.value == "end"
        assert current() == "consumer"
    spans = exported.spans()
    assert spans["rows"].parent_id == spans["consumer"].span_id
    assert spans["inside"].parent_id == spans["rows"].span_id
    assert not ended_in_error(spans["rows"])


def test_a_span_opened_inside_a_generators_body_does_not_leak_to_the_consumer(exported: Started) -> None:
    """Not even while the body stands within its block."""

    @otelkit.traced("rows")
    def rows() -> Iterator[int]:
        with otelkit.span("inside"):
            yield 1
            assert current() == "inside"
            yield 2
        assert current() == "rows"

    for _ in rows():
        assert current() == ""
    assert current() == ""
    assert set(exported.spans()) == {"rows", "inside"}


def test_a_generator_that_never_ran_makes_no_span(exported: Started) -> None:
    """Neither by being made nor by being closed."""

    @otelkit.traced("rows")
    def rows() -> Iterator[int]:
        yield 1

    generator = rows()
    generator.close()  # type: ignore[attr-defined]
    assert exported.spans() == {}


@pytest.mark.parametrize("how", ["break", "close", "drop"])
def test_breaking_off_a_generator_ends_its_span_and_runs_its_cleanup(exported: Started, how: str) -> None:
    """Within the span, as no error."""
    seen = []

    @otelkit.traced("rows")
    def rows() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            seen.append(current())

    generator = rows()
    for _ in generator:
        break
    if how == "close":
        generator.close()
    del generator
    assert seen == ["rows"]
    assert current() == ""
    span = exported.spans()["rows"]
    assert not ended_in_error(span)
    assert len(span.span.events) == 0


def test_an_exception_thrown_into_a_generator_is_its_bodys_to_handle(exported: Started) -> None:
    """A handled one is no error; an unhandled one marks the span and comes out as itself."""

    @otelkit.traced("handles")
    def handles() -> Generator[str, None, None]:
        try:
            yield "first"
        except LookupError:
            assert current() == "handles"
            yield "handled"

    generator = handles()
    next(generator)
    assert generator.throw(LookupError("x")) == "handled"
    generator.close()

    @otelkit.traced("does not")
    def does_not() -> Generator[int, None, None]:
        yield 1

    other = does_not()
    next(other)
    error = LookupError("y")
    with pytest.raises(LookupError) as caught:
        other.throw(error)
    assert caught.value is error
    spans = exported.spans()
    assert not ended_in_error(spans["handles"])
    assert ended_in_error(spans["does not"])


def test_a_generator_works_as_a_context_manager(exported: Started) -> None:
    """What FastAPI's dependencies and contextlib do: an exception of the block reaches the body."""
    seen = []

    @contextlib.contextmanager
    @otelkit.traced("session")
    def session() -> Iterator[int]:
        try:
            yield 1
        except ValueError:
            seen.append("rolled back")
            raise

    with pytest.raises(ValueError, match="bad"), session():
        raise ValueError("bad")
    assert seen == ["rolled back"]
    assert ended_in_error(exported.spans()["session"])


def test_an_exception_of_a_generators_body_marks_its_span(exported: Started) -> None:
    """As that of any function."""

    @otelkit.traced("rows")
    def rows() -> Iterator[int]:
        yield 1
        raise ValueError("bad row")

    with pytest.raises(ValueError, match="bad row"):
        list(rows())
    assert ended_in_error(exported.spans()["rows"])


# -- async generators


def test_an_async_generator_is_current_in_its_body_alone(exported: Started) -> None:
    """Sent values arrive; the consumer's span is its own."""

    @otelkit.traced("rows")
    async def rows() -> AsyncGenerator[int, str]:
        assert current() == "rows"
        got = yield 1
        assert got == "sent"
        await asyncio.sleep(0)
        with otelkit.span("inside"):
            yield 2

    async def consume() -> None:
        with otelkit.span("consumer"):
            generator = rows()
            assert await anext(generator) == 1
            assert current() == "consumer"
            assert await generator.asend("sent") == 2
            assert current() == "consumer"
            with pytest.raises(StopAsyncIteration):
                await anext(generator)
            assert current() == "consumer"

    assert inspect.isasyncgenfunction(rows)
    asyncio.run(consume())
    spans = exported.spans()
    assert spans["rows"].parent_id == spans["consumer"].span_id
    assert spans["inside"].parent_id == spans["rows"].span_id
    assert not ended_in_error(spans["rows"])


@pytest.mark.parametrize("how", ["break", "aclose", "aclosing", "drop"])
def test_breaking_off_an_async_generator_ends_its_span(
    exported: Started, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At once where it is closed, at the latest when the event loop ends; no traceback is logged."""
    seen = []

    @otelkit.traced("rows")
    async def rows() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            seen.append(current())

    async def consume() -> None:
        generator = rows()
        if how == "aclosing":
            async with contextlib.aclosing(generator):
                await anext(generator)
        else:
            async for _ in generator:
                break
            if how == "aclose":
                await generator.aclose()
        if how in ("aclose", "aclosing"):
            assert seen == ["rows"]
        del generator
        for _ in range(5):  # what was dropped is closed by the event loop, in turns of its own
            await asyncio.sleep(0)
        assert current() == ""

    asyncio.run(consume())
    assert seen == ["rows"]
    assert not ended_in_error(exported.spans()["rows"])
    assert caplog.records == []


def test_an_exception_thrown_into_an_async_generator_is_its_bodys_to_handle(exported: Started) -> None:
    """The body sees the very exception, not a close."""
    seen: list[BaseException] = []

    @otelkit.traced("rows")
    async def rows() -> AsyncGenerator[str, None]:
        try:
            yield "first"
        except LookupError as error:
            seen.append(error)
            assert current() == "rows"
            yield "handled"

    error = LookupError("x")

    async def consume() -> None:
        generator = rows()
        await anext(generator)
        assert await generator.athrow(error) == "handled"
        await generator.aclose()

    asyncio.run(consume())
    assert seen == [error]
    assert not ended_in_error(exported.spans()["rows"])


def test_an_async_generator_works_as_a_context_manager(exported: Started) -> None:
    """A dependency that rolls back when its request fails."""
    seen = []

    @contextlib.asynccontextmanager
    @otelkit.traced("session")
    async def session() -> AsyncIterator[int]:
        try:
            yield 1
        except ValueError:
            seen.append("rolled back")
            raise

    async def use() -> None:
        async with session():
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        asyncio.run(use())
    assert seen == ["rolled back"]
    assert ended_in_error(exported.spans()["session"])


def test_tracing_does_not_change_what_a_function_returns(exported: Started) -> None:
    """Objects pass through by identity, whatever they are."""
    thing: Callable[[], None] = lambda: None  # noqa: E731

    @otelkit.traced("get")
    def get() -> Callable[[], None]:
        return thing

    assert get() is thing
