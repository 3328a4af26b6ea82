"""Fault 52: nobody reads a streamed generator to its end. Its spans end, no traceback tells of a context that could not
be detached, and what comes next has the right parent.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest

import otelkit
from otelkit.engine.context import current_span
from tests.support.server import FAST, clean_environment, free_port, get, running, wait_until_up
from tests.support.sink import ReceivedSpan, Sink
from tests.support.slow import slow
from tests.support.started import Started

INTERNAL, SERVER, UNSET = 1, 2, 0
APP = """
import asyncio
import otelkit
otelkit.bootstrap("shop")
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()

@otelkit.traced("decorated")
async def decorated():
    async for part in endless():
        yield part

async def endless():
    with otelkit.span("block"):
        while True:
            with otelkit.span("part"):
                yield "x" * 10_000
            await asyncio.sleep(0.001)

def blocking():
    with otelkit.span("block"):
        while True:
            with otelkit.span("part"):
                yield "x" * 10_000

@app.get("/{how}")
async def index(how: str):
    bodies = {"async": endless, "decorated": decorated, "sync": blocking}
    return StreamingResponse(bodies[how]()) if how in bodies else "x"
"""


@pytest.mark.parametrize("how", ["async", "sync", *slow("decorated")])
def test_a_client_that_goes_away(sink: Sink, tmp_path: Path, how: str) -> None:
    """uvicorn closes the stream in a task of its own: an async generator's block, a traced one, one in threads."""
    (tmp_path / "app.py").write_text(APP)
    port, log = free_port(), tmp_path / "log"
    environ = clean_environment(**FAST, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, OTELKIT_STATE_DIR=str(tmp_path / "state"))
    with running(["uvicorn", "app:app", "--port", str(port)], cwd=tmp_path, environ=environ, log=log) as process:
        wait_until_up(f"http://127.0.0.1:{port}/up", process, log)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(f"GET /{how} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        sink.wait_for(
            lambda: any(_path(span) == f"/{how}" for span in sink.named("GET /{how}")), "the stream's request"
        )
        assert get(f"http://127.0.0.1:{port}/next")[0] == 200
    by_path = {_path(span): span for span in sink.named("GET /{how}")}
    streamed, after = by_path[f"/{how}"], by_path["/next"]
    assert len(by_path) == len(sink.named("GET /{how}")) == 3
    for request in (streamed, after):
        assert (request.span.kind, request.span.status.code) == (SERVER, UNSET)
        assert (request.attributes["http.route"], request.attributes["http.response.status_code"]) == ("/{how}", 200)
        assert "error.type" not in request.attributes
        assert request.attributes.get("otelkit.client.disconnected") is (True if request is streamed else None)
    assert sink.total("http.server.request.duration") == 3
    labels = {"http__route": "/{how}", "http__response__status_code": 200, "http__request__method": "GET"}
    assert sink.total("http.server.request.duration", **labels) == 3
    assert {values[-1] for values in sink.series("http.server.active_requests").values()} == {0}
    (block,) = sink.named("block")
    assert (block.span.kind, block.span.status.code) == (INTERNAL, UNSET)
    assert block.trace_id == streamed.trace_id
    if how == "decorated":
        (traced,) = sink.named("decorated")
        assert (traced.parent_id, block.parent_id) == (streamed.span_id, traced.span_id)
    else:
        assert block.parent_id == streamed.span_id
    assert {part.parent_id for part in sink.named("part")} == {block.span_id}
    assert after.parent_id == ""
    assert after.trace_id != streamed.trace_id
    said = log.read_text()
    assert "Traceback" not in said
    assert "detach" not in said.lower()


def _path(span: ReceivedSpan) -> str:
    return str(span.attributes["url.path"])


def rows_in_a_block() -> Iterator[int]:
    with otelkit.span("rows"):
        yield 1
        yield 2


@otelkit.traced("rows")
def traced_rows() -> Iterator[int]:
    yield 1
    yield 2


@pytest.mark.parametrize("make", [rows_in_a_block, traced_rows])
def test_what_comes_after_a_break(
    exported: Started, caplog: pytest.LogCaptureFixture, make: Callable[[], Iterator[int]]
) -> None:
    """The consumer's span is the parent again."""
    with otelkit.span("consumer") as consumer:
        rows = make()
        for _ in rows:
            break
        del rows
        assert current_span() is consumer
        with otelkit.span("after"):
            pass
    spans = exported.spans()
    assert spans["after"].parent_id == spans["rows"].parent_id == spans["consumer"].span_id
    assert caplog.records == []


@otelkit.traced("rows")
async def traced_rows_of_a_coroutine() -> AsyncGenerator[int, None]:
    yield 1
    yield 2


async def rows_in_a_coroutines_block() -> AsyncGenerator[int, None]:
    with otelkit.span("rows"):
        yield 1
        yield 2


@pytest.mark.parametrize("make", [traced_rows_of_a_coroutine, rows_in_a_coroutines_block])
def test_each_step_in_another_task(
    exported: Started, caplog: pytest.LogCaptureFixture, make: Callable[[], AsyncGenerator[int, None]]
) -> None:
    """And so in another context, as servers that stream do it; the last step closes."""

    async def consume() -> None:
        generator = make()

        async def step() -> int:
            return await anext(generator)

        async def close() -> None:
            await generator.aclose()

        assert await asyncio.create_task(step()) == 1
        assert await asyncio.create_task(step()) == 2
        await asyncio.create_task(close())
        assert current_span() is None
        with otelkit.span("after"):
            pass

    asyncio.run(consume())
    spans = exported.spans()
    assert spans["rows"].span.end_time_unix_nano > 0
    assert spans["after"].parent_id == ""
    assert caplog.records == []
