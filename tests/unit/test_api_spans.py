"""`otelkit.span`: blocks of business code become spans."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import otelkit
from tests.support.started import Started


def test_a_block_becomes_a_span_with_its_name_times_and_attributes(exported: Started) -> None:
    """Keywords and a mapping for dotted keys both become attributes; a keyword wins."""
    with otelkit.span("price.quote", {"user.id": 1, "sku": "old"}, sku="new", ratio=0.5, gift=True, tags=["a", "b"]):
        pass
    span = exported.spans()["price.quote"]
    assert span.attributes == {"user.id": 1, "sku": "new", "ratio": 0.5, "gift": True, "tags": ["a", "b"]}
    assert span.span.kind == Span.SPAN_KIND_INTERNAL
    assert 0 < span.span.start_time_unix_nano <= span.span.end_time_unix_nano
    assert span.span.status.code == Status.STATUS_CODE_UNSET
    assert span.scope == "otelkit"
    assert span.resource["service.name"] == "test"


def test_nested_blocks_are_parent_and_child_in_one_trace(exported: Started) -> None:
    """The inner span's parent is the outer one, and the outer one is current again afterwards."""
    with otelkit.span("outer") as outer:
        with otelkit.span("inner"):
            pass
        assert trace.get_current_span() is outer
        with otelkit.span("second"):
            pass
    assert not trace.get_current_span().get_span_context().is_valid
    spans = exported.spans()
    assert spans["inner"].parent_id == spans["second"].parent_id == spans["outer"].span_id
    assert spans["outer"].parent_id == ""
    assert len({span.trace_id for span in spans.values()}) == 1


@pytest.mark.parametrize("kind", ["internal", "server", "client", "producer", "consumer"])
def test_the_kind_can_be_chosen(exported: Started, kind: str) -> None:
    """Every kind of OpenTelemetry has its word."""
    with otelkit.span("call", _kind=kind):  # type: ignore[arg-type]
        pass
    assert Span.SpanKind.Name(exported.spans()["call"].span.kind) == f"SPAN_KIND_{kind.upper()}"


def test_root_begins_a_new_trace_inside_of_another(exported: Started) -> None:
    """`_root` cuts the parent off, links keep the connection, whatever form they are given in."""
    with otelkit.span("outer") as outer:
        links: list[Any] = [outer, outer.get_span_context(), trace.Link(outer.get_span_context(), {"why": "retry"})]
        with otelkit.span("apart", _root=True, _links=links):
            pass
    spans = exported.spans()
    assert spans["apart"].parent_id == ""
    assert spans["apart"].trace_id != spans["outer"].trace_id
    assert [link.span_id.hex() for link in spans["apart"].span.links] == [spans["outer"].span_id] * 3
    assert [len(link.attributes) for link in spans["apart"].span.links] == [0, 0, 1]


def test_an_exception_marks_the_span_and_passes_on_unchanged(exported: Started) -> None:
    """The very exception object arrives outside; the span has status, type and event."""
    error = LookupError("no such sku")
    with pytest.raises(LookupError) as caught, otelkit.span("quote"):
        raise error
    assert caught.value is error
    span = exported.spans()["quote"]
    assert span.span.status.code == Status.STATUS_CODE_ERROR
    assert span.span.status.message == "LookupError: no such sku"
    assert span.attributes["error.type"] == "LookupError"
    assert [event.name for event in span.span.events] == ["exception"]


def test_a_closed_generator_is_no_failure_of_its_span(exported: Started) -> None:
    """Leaving by GeneratorExit ends it; the other kinds: tests/faults/test_f43_*."""
    with pytest.raises(GeneratorExit), otelkit.span("quote"):
        raise GeneratorExit
    span = exported.spans()["quote"]
    assert span.span.status.code == Status.STATUS_CODE_UNSET
    assert len(span.span.events) == 0


def test_a_block_works_as_a_decorator_for_every_call(exported: Started) -> None:
    """Sync and async functions, called at the same time, each get a span of their own."""

    @otelkit.span("job", queue="a")
    def job(number: int) -> int:
        return number

    @otelkit.span("job", queue="b")
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def all_of_them() -> list[int]:
        return list(await asyncio.gather(*(later(number) for number in range(5))))

    assert [job(number) for number in range(3)] == [0, 1, 2]
    assert asyncio.run(all_of_them()) == [0, 1, 2, 3, 4]
    found = exported.flush().named("job")
    assert sorted(span.attributes["queue"] for span in found) == ["a"] * 3 + ["b"] * 5
    assert len({span.trace_id for span in found}) == 8


def test_leaving_a_block_in_another_context_ends_the_span_silently(
    exported: Started, caplog: pytest.LogCaptureFixture
) -> None:
    """What a broken-off streamed response does (opentelemetry-python#2606) raises and logs nothing."""
    block = otelkit.span("stream")
    block.__enter__()
    import contextvars

    contextvars.Context().run(block.__exit__, None, None, None)
    assert "stream" in exported.spans()
    assert caplog.records == []
    block.__exit__(None, None, None)


def test_threads_begin_traces_of_their_own(exported: Started) -> None:
    """A plain thread does not inherit the block of its starter."""

    def work() -> None:
        with otelkit.span("in the thread"):
            pass

    with otelkit.span("outer"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    spans = exported.spans()
    assert spans["in the thread"].parent_id == ""


def test_bad_attribute_values_never_raise(exported: Started) -> None:
    """A value that OpenTelemetry has no type for does not cost the span."""
    with otelkit.span("odd", {"n": None}, thing=object(), mixed=[1, "a"], nested={"a": 1}) as span:  # type: ignore[dict-item, arg-type]
        span.set_attribute("set", {1, 2})  # type: ignore[arg-type]
    assert "odd" in exported.spans()
