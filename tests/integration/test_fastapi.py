"""FastAPI and Starlette under a real uvicorn: spans, metrics, ids and bound values of the common ways of use."""

from __future__ import annotations

import asyncio
import http.client
import logging
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import fastapi
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import otelkit
from otelkit.instrumentation.library import LIBRARIES
from tests.integration.conftest import Exported, Serve
from tests.support.server import get
from tests.support.sink import attributes

NATIVE = next(library for library in LIBRARIES if library.name == "fastapi").records_itself(fastapi.__version__)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def request(url: str, method: str) -> int:
    """Any method, made-up ones too."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, parts.path)
        return connection.getresponse().status
    finally:
        connection.close()


def shop() -> FastAPI:
    """An application with routers in routers and a mounted application."""
    app = fastapi.FastAPI()  # by its module: contrib replaces the class there
    inner = APIRouter(prefix="/inner")
    outer = APIRouter(prefix="/outer")
    mounted = FastAPI()

    @app.get("/items/{item}")
    def item(item: int) -> int:
        return item

    @inner.get("/deep/{key}")
    async def deep(key: str) -> str:
        return key

    @mounted.get("/sub/{number}")
    async def sub(number: int) -> int:
        return number

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404, "no such thing")

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the cellar floods")

    outer.include_router(inner)
    app.include_router(outer, prefix="/api")
    app.mount("/mount", mounted)
    return app


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/items/7", "/items/{item}"),
        ("/api/outer/inner/deep/x", "/api/outer/inner/deep/{key}"),
        ("/mount/sub/3", "/mount/sub/{number}"),
    ],
)
def test_the_route_is_the_whole_template(exported: Exported, serve: Serve, path: str, route: str) -> None:
    """Prefixes of routers and mounts belong to the route; the path's values stay out of name and labels."""
    with serve(shop()) as url:
        assert get(url + path)[0] == 200
    span = exported.span(f"GET {route}")
    assert (
        span.attributes | {"url.path": path, "http.route": route, "http.response.status_code": 200} == span.attributes
    )
    assert span.span.kind == 2
    assert span.span.status.code == 0
    assert exported.total("http.server.request.duration", http__route=route, http__response__status_code=200) == 1
    assert exported.total("http.server.active_requests") == 0


def test_starlette_and_its_mounts(exported: Exported, serve: Serve) -> None:
    """A plain Starlette application is recorded alike."""

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(routes=[Mount("/m", routes=[Route("/k/{w}", endpoint)])])
    with serve(app) as url:
        get(url + "/m/k/1")
    assert exported.span("GET /m/k/{w}").attributes["http.route"] == "/m/k/{w}"


def test_an_app_made_before_bootstrap(start: Callable[..., Exported], serve: Serve) -> None:
    """Applications need not be made after bootstrap."""
    app = shop()
    exported = start()
    with serve(app) as url:
        get(url + "/items/1")
    assert exported.span("GET /items/{item}").attributes["http.response.status_code"] == 200


def test_no_route_no_path_in_labels(exported: Exported, serve: Serve) -> None:
    """404 and 405 name no route; unknown methods become _OTHER."""
    with serve(shop()) as url:
        assert get(url + "/wp-admin/secret")[0] == 404
        assert request(url + "/items/1", "DELETE") == 405
        assert request(url + "/items/1", "BREW") == 405
    names = [span.name for span in exported.spans]
    assert names == ["GET", "DELETE /items/{item}", "HTTP /items/{item}"] or names == ["GET", "DELETE", "HTTP"]
    assert exported.spans[0].span.status.code == 0
    labels = [
        attributes(point.attributes)
        for metric in exported.sink.metrics
        if metric.name == "http.server.request.duration"
        for point in metric.points
    ]
    assert {label["http.request.method"] for label in labels} == {"GET", "DELETE", "_OTHER"}
    assert not any("wp-admin" in str(label) for label in labels)


def test_an_http_exception_below_500_is_no_error(exported: Exported, serve: Serve) -> None:
    """HTTPException(404) is an answer: no error status, no exception record."""
    with serve(shop()) as url:
        assert get(url + "/missing")[0] == 404
    span = exported.span("GET /missing")
    assert span.span.status.code == 0
    assert "error.type" not in span.attributes
    assert exported.logs("otelkit.exceptions") == []


def test_an_unhandled_error(exported: Exported, serve: Serve) -> None:
    """A 500 carries its request id to the client; the exception is one log record and marks the span."""
    with serve(shop()) as url:
        status, headers, _ = get(url + "/broken")
    assert status == 500
    span = exported.span("GET /broken")
    assert headers["x-request-id"] == span.attributes["request.id"]
    assert span.attributes["error.type"] == "RuntimeError"
    assert span.span.status.code == 2
    assert [event.name for event in span.span.events] == ["exception"]
    (record,) = exported.logs("otelkit.exceptions")
    assert record.attributes["exception.message"] == "the cellar floods"
    assert record.record.span_id.hex() == span.span_id
    assert re.fullmatch("[0-9a-f]{16}", record.attributes["otelkit.error.fingerprint"])
    uvicorns = [log for log in exported.logs("uvicorn.error") if "exception.type" in log.attributes]
    assert all("exception.stacktrace" not in log.attributes for log in uvicorns)
    assert exported.total("http.server.request.duration", error__type="RuntimeError") == 1


def test_the_callers_trace_and_request_id(exported: Exported, serve: Serve) -> None:
    """A traceparent is continued; a harmless X-Request-ID is taken over; both come back."""
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "order-17"}
    with serve(shop()) as url:
        _, answer, _ = get(url + "/items/1", headers)
        _, other, _ = get(url + "/items/1", {"x-request-id": "<script>"})
    first = exported.spans[0]
    assert (first.trace_id, first.parent_id) == (TRACE, PARENT)
    assert answer["x-request-id"] == "order-17"
    assert answer["server-timing"].startswith(f'traceparent;desc="00-{TRACE}-{first.span_id}-')
    assert re.fullmatch("[0-9a-f]{32}", other["x-request-id"])


def test_pipelined_requests_have_traces_of_their_own(exported: Exported, serve: Serve) -> None:
    """uvicorn starts the next request's task in the context of the one before; what was bound there ends with it."""
    app = FastAPI()

    @app.get("/{number}")
    async def one(number: int) -> None:
        otelkit.bind(number=number)
        with otelkit.span("inside"):
            pass

    asked = b"".join(b"GET /%d HTTP/1.1\r\nhost: shop\r\n\r\n" % number for number in range(20))
    with serve(app) as url:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:  # type: ignore[arg-type]
            connection.sendall(asked)
            answered = b""
            while answered.count(b"HTTP/1.1 200") < 20:
                answered += connection.recv(65536)
    requests = [span for span in exported.spans if span.name == "GET /{number}"]
    assert [span.parent_id for span in requests] == [""] * 20
    assert len({span.trace_id for span in requests}) == 20
    inside = {span.parent_id: span for span in exported.spans if span.name == "inside"}
    assert inside.keys() == {span.span_id for span in requests}
    for number, span in enumerate(requests):
        assert inside[span.span_id].attributes["number"] == number


def test_bound_values_reach_every_span_and_log(exported: Exported, serve: Serve) -> None:
    """What a sync dependency binds (in another thread's context) is on its request's spans and records alone."""
    app = FastAPI()

    def user(user: str) -> None:
        otelkit.bind(user_id=user, tenant="acme")

    @app.get("/", dependencies=[Depends(user)])
    async def index() -> str:
        logging.getLogger("shop").info("hello")
        with otelkit.span("inner"):
            return "x"

    class Middleware(BaseHTTPMiddleware):
        pass

    app.add_middleware(Middleware, dispatch=lambda request, call_next: call_next(request))
    with serve(app) as url:
        get(url + "/?user=7")
        get(url + "/?user=8")
    for number, name in ((0, "7"), (1, "8")):
        server = [span for span in exported.spans if span.name == "GET /"][number]
        inner = next(s for s in exported.spans if s.name == "inner" and s.trace_id == server.trace_id)
        log = next(log for log in exported.logs("shop") if log.record.trace_id.hex() == server.trace_id)
        for found in (server.attributes, inner.attributes, log.attributes):
            assert (found["user.id"], found["tenant"]) == (name, "acme")
            assert found["request.id"] == server.attributes["request.id"]


def test_query_values_are_not_recorded(exported: Exported, serve: Serve) -> None:
    """Of the query string only the names are kept."""
    with serve(shop()) as url:
        get(url + "/items/1?token=s3cr3t&page=2")
    assert exported.span("GET /items/{item}").attributes["url.query"] == "token=REDACTED&page=REDACTED"


def test_captured_headers(start: Callable[..., Exported], serve: Serve) -> None:
    """Headers that are asked for become attributes; credentials are redacted whatever is asked for."""
    exported = start(
        capture_request_headers="x-.*,authorization", capture_response_headers="content-.*", sanitize_headers="x-card"
    )
    with serve(shop()) as url:
        get(url + "/items/1", {"x-plan": "pro", "x-card": "4111", "authorization": "Bearer s3cr3t"})
    found = exported.span("GET /items/{item}").attributes
    assert found["http.request.header.x-plan"] == ["pro"]
    assert found["http.request.header.x-card"] == ["[REDACTED]"]
    assert found["http.request.header.authorization"] == ["[REDACTED]"]
    assert found["http.response.header.content-type"] == ["application/json"]


@pytest.mark.parametrize("objects", [{}, {"sampler": ALWAYS_ON}], ids=["by setting", "by object"])
def test_excluded_urls_are_silent_with_all_that_they_call(
    start: Callable[..., Exported], serve: Serve, objects: dict[str, Any]
) -> None:
    """Below an excluded URL nobody records spans, whatever a sampler of the application's says; the request is
    answered.
    """
    exported = start(excluded_urls="/health", **objects)
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        with otelkit.span("check"):
            return "ok"

    with serve(app) as url:
        assert get(url + "/health")[0] == 200
    assert exported.spans == []


def test_a_background_task_has_the_request_as_parent_and_is_not_in_its_duration(
    exported: Exported, serve: Serve
) -> None:
    """The server span ends with the last byte; what comes after is its child."""
    app = FastAPI()

    async def later() -> None:
        with otelkit.span("later"):
            pass

    @app.get("/")
    async def index(tasks: BackgroundTasks) -> str:
        tasks.add_task(later)
        return "x"

    with serve(app) as url:
        get(url + "/")
    server, task = exported.span("GET /"), exported.span("later")
    assert task.parent_id == server.span_id
    assert task.span.start_time_unix_nano >= server.span.end_time_unix_nano


def test_a_stream_ends_the_span_with_its_last_chunk(exported: Exported, serve: Serve) -> None:
    """Spans made while streaming belong to the request."""
    app = FastAPI()

    @app.get("/")
    async def index() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            for number in range(3):
                with otelkit.span(f"chunk {number}"):
                    yield str(number)

        return StreamingResponse(body())

    with serve(app) as url:
        assert get(url + "/")[2] == b"012"
    server = exported.span("GET /")
    for number in range(3):
        chunk = exported.span(f"chunk {number}")
        assert chunk.trace_id == server.trace_id
        assert chunk.span.end_time_unix_nano <= server.span.end_time_unix_nano


# uvicorn of 2024 serves websockets with what the package of that name has deprecated since.
@pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")
def test_a_websocket_is_one_span(exported: Exported, serve: Serve) -> None:
    """From the handshake to the close, with no measured request."""
    from websockets.sync.client import connect

    app = FastAPI()

    @app.websocket("/ws/{room}")
    async def room(socket: WebSocket, room: str) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    with serve(app) as url, connect(url.replace("http", "ws") + "/ws/1") as client:
        client.send("hello")
        assert client.recv() == "hello"
    assert exported.span("GET /ws/{room}").attributes["http.response.status_code"] == 101
    assert exported.total("http.server.request.duration") == 0


@pytest.mark.skipif(not NATIVE, reason=f"fastapi {fastapi.__version__} has no telemetry of its own")
def test_the_choice_of_who_records_fastapi(start: Callable[..., Exported], serve: Serve) -> None:
    """`native` leaves it to FastAPI; nobody records it twice."""
    exported = start(instrument={"fastapi": "native"})
    with serve(shop()) as url:
        get(url + "/items/1")
    servers = [span for span in exported.spans if span.span.kind == 2]
    assert [span.scope for span in servers] == ["fastapi"]


@pytest.mark.parametrize("choice", ["off", "contrib"])
def test_other_choices(start: Callable[..., Exported], serve: Serve, choice: str) -> None:
    """`contrib` hands over to the ecosystem's instrumentation; `off` silences FastAPI's own telemetry too."""
    exported = start(instrument={"fastapi": choice})
    decision = otelkit.status()["libraries"]["fastapi"]
    assert (decision["choice"], decision["reason"]) == (choice, "by setting")
    with serve(shop()) as url:
        get(url + "/items/1")
    scopes = {span.scope for span in exported.spans if span.span.kind == 2}
    assert scopes == ({"opentelemetry.instrumentation.fastapi"} if choice == "contrib" else set())


def test_the_request_log_lines(start: Callable[..., Exported], serve: Serve) -> None:
    """By setting, one record for each request, its level by the status."""
    exported = start(log_request_completed=True, log_request_started=True)
    logging.getLogger("http.server").setLevel(logging.DEBUG)
    try:
        with serve(shop()) as url:
            get(url + "/items/1")
            get(url + "/missing")
            get(url + "/broken")
    finally:
        logging.getLogger("http.server").setLevel(logging.NOTSET)
    records = exported.logs("http.server")
    done = [record for record in records if "completed" in str(record.body)]
    assert [record.record.severity_text for record in done] == ["INFO", "WARNING", "ERROR"]
    found = done[0].attributes
    assert found["http.route"] == "/items/{item}"
    assert found["http.response.status_code"] == 200
    assert found["client.address"] == "127.0.0.1"
    assert found["duration"] > 0
    assert [record.record.severity_text for record in records if "started" in str(record.body)] == ["DEBUG"] * 3


def test_telemetry_switched_off_again_leaves_the_class_as_it_was(start: Callable[..., Exported], serve: Serve) -> None:
    """After shutdown nothing is recorded and no header is added."""
    before = FastAPI.__call__
    start()
    assert FastAPI.__call__ is not before
    otelkit.shutdown()
    assert FastAPI.__call__ is before
    with serve(shop()) as url:
        _, headers, _ = get(url + "/items/1")
    assert "x-request-id" not in headers


def test_a_block_around_a_yield_holds_for_the_endpoint(start: Callable[..., Exported], serve: Serve) -> None:
    """Of a sync dependency, whose thread and its context are gone by then, and of an async one; after both it is over.

    Of endpoints that are asked at the same time each has its own.
    """
    exported = start(runtime_metrics=False)
    app = FastAPI()

    def in_thread(number: int) -> Iterator[None]:
        with otelkit.bind(thread=number):
            yield

    async def in_task(number: int) -> AsyncIterator[None]:
        with otelkit.bind(task=number):
            yield

    @app.get("/{number}", dependencies=[Depends(in_thread), Depends(in_task)])
    async def endpoint(number: int) -> None:
        with otelkit.span(f"async {number}"):
            await asyncio.sleep(0.05)
        await asyncio.to_thread(otelkit.event, f"thread {number}")

    class Around:
        """Sees the end of the dependencies."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)
            otelkit.event(f"after {scope['path'][1:]}")

    app.add_middleware(Around)
    with serve(app) as url, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: get(f"{url}/{number}")[0], range(8)))
    assert answers == [200] * 8
    exported.flush()
    logs = {log.record.event_name: log.attributes for log in exported.sink.logs}
    for number in range(8):
        both = {"thread": number, "task": number}
        assert exported.span(f"async {number}").attributes.items() >= both.items()
        assert logs[f"thread {number}"].items() >= both.items()
        (request,) = [span for span in exported.spans if span.attributes.get("url.path") == f"/{number}"]
        assert request.attributes.items() >= both.items()
        assert not both.keys() & logs[f"after {number}"].keys()
