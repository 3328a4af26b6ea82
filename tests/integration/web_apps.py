"""The applications and requests of `test_web_nouns.py`, a case each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fastapi
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import otelkit
from tests.integration.web_cases import (
    ERROR,
    SECRET,
    Case,
    all_of,
    ask,
    break_off,
    inner,
    labels,
    leave,
    refused,
    server,
    talk,
)


def one(**options: Any) -> FastAPI:
    """An application with one of each."""
    app = fastapi.FastAPI(**options)  # by its module: contrib replaces the class there

    @app.get("/items/{item}")
    async def item(item: str) -> str:
        with otelkit.span("inside"):
            return item

    @app.get("/threads/{item}")
    def threads(item: str) -> str:
        with otelkit.span("inside"):
            return item

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404, "no such thing")

    @app.get("/down")
    async def down() -> None:
        raise HTTPException(503, "not now")

    @app.get("/broken")
    async def broken() -> None:
        raise LookupError("the cellar floods")

    return app


def dispatcher() -> Any:
    """Two applications behind a function."""
    shop, admin = one(), one()

    async def dispatch(scope: Any, receive: Any, send: Any) -> None:
        await (admin if scope.get("path") == "/items/admin" else shop)(scope, receive, send)

    return dispatch


def nested() -> FastAPI:
    """Mounts in mounts, of every kind."""
    app, middle = FastAPI(), FastAPI()
    middle.mount("/inner", one())

    async def leaf(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    class Leaf(HTTPEndpoint):
        async def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("x")

    routes = [Mount("/b/{tenant}", routes=[Route("/leaf/{n}", leaf), Route("/class/{n}", Leaf)])]
    middle.mount("/a", Starlette(routes=routes))
    app.mount("/outer", middle)
    return app


def within_mount(app: FastAPI) -> FastAPI:
    """An application that is also mounted in itself."""
    app.mount("/mount", one())
    return app


def routers() -> FastAPI:
    """Routers in routers, each with its prefix."""
    app = FastAPI()
    innermost, middle, outer = APIRouter(prefix="/c"), APIRouter(prefix="/b/{tenant}"), APIRouter()

    @innermost.get("/{item}")
    async def item(tenant: str, item: str) -> str:
        return item

    middle.include_router(innermost)
    outer.include_router(middle, prefix="/a")
    app.include_router(outer, prefix="/api")
    return app


def rooms() -> FastAPI:
    """Websockets."""
    app = FastAPI()

    @app.websocket("/ws/{room}")
    async def room(socket: WebSocket, room: str) -> None:
        await socket.accept()
        with otelkit.span("inside"):
            async for text in socket.iter_text():
                await socket.send_text(text)

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        while True:
            await socket.send_text(await socket.receive_text())

    @app.websocket("/closed")
    async def closed(socket: WebSocket) -> None:
        await socket.close()

    @app.websocket("/denied/{room}")
    async def denied(socket: WebSocket, room: str) -> None:
        # What Starlette makes of an HTTPException; its earliest versions do not.
        await socket.send_denial_response(PlainTextResponse("who are you", 401))

    @app.websocket("/broken")
    async def broken(socket: WebSocket) -> None:
        raise LookupError("the cellar floods")

    @app.websocket("/falls")
    async def falls(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        await socket.send_text("x")
        raise LookupError("the cellar floods")

    return app


def streams() -> FastAPI:
    """Bodies in chunks."""
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            for number in range(2):
                with otelkit.span("chunk"):
                    yield str(number)

        return StreamingResponse(body())

    @app.get("/threads")
    def threads() -> StreamingResponse:
        def body() -> Iterator[str]:
            for number in range(2):
                with otelkit.span("chunk"):
                    yield str(number)

        return StreamingResponse(body())

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            for number in range(2):
                with otelkit.span("event"):
                    yield f"data: {number}\n\n"

        return StreamingResponse(body(), media_type="text/event-stream")

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            with otelkit.span("block"):
                while True:
                    yield "data: x\n\n"
                    await asyncio.sleep(0.001)

        return StreamingResponse(body(), media_type="text/event-stream")

    @app.get("/halfway")
    async def halfway() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield "x"
            raise LookupError("the cellar floods")

        return StreamingResponse(body())

    @app.post("/upload")
    async def upload(request: Request) -> str:
        return str(len(await request.body()))

    return app


def after() -> FastAPI:
    """Background tasks, and dependencies with yield."""
    app = FastAPI()

    async def later() -> None:
        with otelkit.span("later"):
            await asyncio.sleep(0.05)

    def later_in_a_thread() -> None:
        with otelkit.span("later in a thread"):
            pass

    @app.get("/tasks")
    async def tasks(tasks: BackgroundTasks) -> str:
        tasks.add_task(later)
        tasks.add_task(later_in_a_thread)
        return "x"

    async def session() -> AsyncIterator[str]:
        with otelkit.span("session"):
            yield "x"

    def session_in_a_thread() -> Iterator[str]:
        with otelkit.span("opens"):
            pass
        yield "x"
        with otelkit.span("closes"):
            pass

    @app.get("/yields")
    async def yields(one: str = Depends(session), other: str = Depends(session_in_a_thread)) -> str:
        with otelkit.span("inside"):
            return one + other

    @app.get("/yields/broken")
    async def yields_broken(one: str = Depends(session)) -> str:
        raise LookupError("the cellar floods")

    return app


class Dispatching(BaseHTTPMiddleware):
    """Starlette's way."""

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        with otelkit.span("dispatch"):
            return await call_next(request)


class Pure:
    """The protocol's way; it hands on a scope of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with otelkit.span("pure"):
            await self.app({**scope, "seen": True}, receive, send)


def within(*middleware: Any) -> FastAPI:
    """Middleware inside the application."""
    app = one()
    for each in middleware:
        app.add_middleware(each)
    return app


def handlers() -> FastAPI:
    """Exception handlers of the application's own."""
    app = one()

    @app.exception_handler(KeyError)
    async def teapot(request: Request, error: KeyError) -> JSONResponse:
        return JSONResponse({}, 418)

    @app.exception_handler(Exception)
    async def anything(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({}, 500)

    @app.get("/teapot")
    async def handled() -> None:
        raise KeyError("tea")

    return app


def within_cors() -> FastAPI:
    """An application that browsers of other origins may ask, and a mount of Starlette's."""

    async def plain(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = one()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.mount("/m", Starlette(routes=[Route("/plain/{n}", plain)]))
    return app


def static() -> FastAPI:
    """A mounted application without routes."""
    app = FastAPI()
    app.mount("/static", StaticFiles(directory=Path(__file__).parent))
    return app


class Item(BaseModel):
    """A body."""

    price: int


def validated() -> FastAPI:
    """What is validated: what comes in, what goes out, and what the application itself validates."""
    app = FastAPI()

    @app.post("/items/{number}")
    async def item(number: int, item: Item) -> int:
        return number

    @app.get("/answer", response_model=Item)
    async def answer() -> dict[str, str]:
        return {"price": SECRET}

    @app.get("/own")
    async def own() -> None:
        Item.model_validate({"price": SECRET})

    return app


def living() -> FastAPI:
    """An application with a beginning and an end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with otelkit.span("opens"):
            pass
        yield
        with otelkit.span("closes"):
            pass

    return one(lifespan=lifespan)


def items(status: int = 200, name: str = "GET /items/{item}") -> tuple[Any, ...]:
    """The spans of one request of `one()`."""
    return server(name, status), inner("inside", name)


ITEM, ITEM_LABELS = "GET /items/{item}", labels("GET", "/items/{item}", 200)

CASES = [
    Case("an app made before bootstrap", one, ask("/items/1"), items(), (ITEM_LABELS,), before=True),
    Case("an app made after bootstrap", one, ask("/items/1"), items(), (ITEM_LABELS,)),
    Case(
        "several apps",
        dispatcher,
        all_of(ask("/items/1"), ask("/items/admin")),
        items() + items(),
        (ITEM_LABELS, ITEM_LABELS),
    ),
    Case(
        "mounts in mounts",
        nested,
        all_of(ask("/outer/inner/items/1"), ask("/outer/a/b/acme/leaf/1"), ask("/outer/a/b/acme/class/1")),
        (
            server("GET /outer/inner/items/{item}", 200),
            inner("inside", "GET /outer/inner/items/{item}"),
            server("GET /outer/a/b/{tenant}/leaf/{n}", 200),
            server("GET /outer/a/b/{tenant}/class/{n}", 200),
        ),
        (
            labels("GET", "/outer/inner/items/{item}", 200),
            labels("GET", "/outer/a/b/{tenant}/leaf/{n}", 200),
            labels("GET", "/outer/a/b/{tenant}/class/{n}", 200),
        ),
    ),
    Case(
        "routers in routers",
        routers,
        ask("/api/a/b/acme/c/1"),
        (server("GET /api/a/b/{tenant}/c/{item}", 200),),
        (labels("GET", "/api/a/b/{tenant}/c/{item}", 200),),
    ),
    Case(
        "root_path behind a proxy",
        lambda: within_mount(one()),
        all_of(
            ask("/items/1", headers={"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}),
            ask("/mount/items/1"),
        ),
        (
            server(
                ITEM, 200, has={"client.address": "203.0.113.7", "url.scheme": "https", "url.path": "/shop/items/1"}
            ),
            inner("inside", ITEM),
            server("GET /mount/items/{item}", 200, has={"client.address": "127.0.0.1", "url.scheme": "http"}),
            inner("inside", "GET /mount/items/{item}"),
        ),
        (labels("GET", "/items/{item}", 200, url__scheme="https"), labels("GET", "/mount/items/{item}", 200)),
        served={"root_path": "/shop"},
    ),
    Case(
        "websocket",
        rooms,
        talk("/ws/1", "a", "b", SECRET),
        (
            server(
                "GET /ws/{room}",
                101,
                has={"websocket.messages.received": 3, "websocket.messages.sent": 3},
            ),
            inner("inside", "GET /ws/{room}"),
        ),
        (),
        metrics={
            "websocket.server.messages": {
                (("http.route", "/ws/{room}"), ("network.io.direction", "receive")): 3,
                (("http.route", "/ws/{room}"), ("network.io.direction", "transmit")): 3,
            }
        },
    ),
    Case(
        "a client that leaves a websocket",
        rooms,
        leave("/echo", SECRET),
        (server("GET /echo", 101, has={"otelkit.client.disconnected": True, "websocket.messages.sent": 1}),),
        (),
    ),
    Case("websocket refused", rooms, refused("/closed"), (server("GET /closed", 403),), ()),
    Case("websocket denied", rooms, refused("/denied/1", 401, answered=True), (server("GET /denied/{room}", 401),), ()),
    Case(
        "websocket that fails before it is accepted",
        rooms,
        refused("/broken", 500),
        (server("GET /broken", 500, status=ERROR, has={"error.type": "LookupError"}),),
        (),
        exceptions=("LookupError",),
    ),
    Case("websocket to no route", rooms, refused("/nowhere"), (server("GET", 403),), ()),
    Case(
        "websocket that fails",
        rooms,
        talk("/falls", "x"),
        (
            server(
                "GET /falls",
                101,
                status=ERROR,
                has={"error.type": "LookupError", "websocket.messages.received": 1, "websocket.messages.sent": 1},
            ),
        ),
        (),
        exceptions=("LookupError",),
    ),
    Case(
        "streaming",
        streams,
        all_of(ask("/stream"), ask("/threads")),
        (
            server("GET /stream", 200),
            inner("chunk", "GET /stream"),
            inner("chunk", "GET /stream"),
            server("GET /threads", 200),
            inner("chunk", "GET /threads"),
            inner("chunk", "GET /threads"),
        ),
        (labels("GET", "/stream", 200), labels("GET", "/threads", 200)),
    ),
    Case(
        "server-sent events",
        streams,
        ask("/events"),
        (server("GET /events", 200), inner("event", "GET /events"), inner("event", "GET /events")),
        (labels("GET", "/events", 200),),
    ),
    Case(
        "a stream that fails",
        streams,
        break_off("GET /halfway", b"\r\n1\r\nx"),
        (server("GET /halfway", 200, status=ERROR, has={"error.type": "LookupError"}),),
        (labels("GET", "/halfway", 200, error__type="LookupError"),),
        exceptions=("LookupError",),
    ),
    Case(
        "a client that leaves a stream",
        streams,
        break_off("GET /endless", b"data: x"),
        (
            server("GET /endless", 200, has={"otelkit.client.disconnected": True}),
            inner("block", "GET /endless"),
        ),
        (labels("GET", "/endless", 200),),
    ),
    Case(
        "a client that leaves its upload",
        streams,
        break_off("POST /upload", b"", b"Content-Length: 100\r\n"),
        (server("POST /upload", None, has={"otelkit.client.disconnected": True}),),
        (labels("POST", "/upload", None),),
    ),
    Case(
        "background tasks",
        after,
        ask("/tasks"),
        (server("GET /tasks", 200), inner("later", "GET /tasks"), inner("later in a thread", "GET /tasks")),
        (labels("GET", "/tasks", 200),),
    ),
    Case(
        "dependencies with yield",
        after,
        ask("/yields"),
        (
            server("GET /yields", 200),
            inner("session", "GET /yields"),
            inner("opens", "session"),
            inner("closes", "session"),
            inner("inside", "session"),
        ),
        (labels("GET", "/yields", 200),),
    ),
    Case(
        "a dependency with yield that is left by an error",
        after,
        ask("/yields/broken", status=500),
        (
            server("GET /yields/broken", 500, status=ERROR, has={"error.type": "LookupError"}),
            inner("session", "GET /yields/broken", status=ERROR, has={"error.type": "LookupError"}, lacks=()),
        ),
        (labels("GET", "/yields/broken", 500, error__type="LookupError"),),
        exceptions=("LookupError",),
    ),
    Case(
        "sync endpoint",
        one,
        ask("/threads/1"),
        (server("GET /threads/{item}", 200), inner("inside", "GET /threads/{item}")),
        (labels("GET", "/threads/{item}", 200),),
    ),
    Case(
        "BaseHTTPMiddleware inside",
        lambda: within(Dispatching),
        ask("/items/1"),
        (server(ITEM, 200), inner("dispatch", ITEM), inner("inside", "dispatch")),
        (ITEM_LABELS,),
    ),
    Case(
        "BaseHTTPMiddleware around",
        lambda: Dispatching(one()),
        ask("/items/1"),
        (inner("dispatch", ""), server(ITEM, 200, under="dispatch"), inner("inside", ITEM)),
        (ITEM_LABELS,),
    ),
    Case(
        "an error through BaseHTTPMiddleware",
        lambda: within(Dispatching),
        ask("/broken", status=500),
        (
            server("GET /broken", 500, status=ERROR, has={"error.type": "LookupError"}),
            inner("dispatch", "GET /broken", status=ERROR, has={"error.type": "LookupError"}, lacks=()),
        ),
        (labels("GET", "/broken", 500, error__type="LookupError"),),
        exceptions=("LookupError",),
    ),
    Case(
        "pure middleware inside",
        lambda: within(Pure),
        ask("/items/1"),
        (server(ITEM, 200), inner("pure", ITEM), inner("inside", "pure")),
        (ITEM_LABELS,),
    ),
    Case(
        "both inside",
        lambda: within(Pure, Dispatching),
        ask("/items/1"),
        (server(ITEM, 200), inner("dispatch", ITEM), inner("pure", "dispatch"), inner("inside", "pure")),
        (ITEM_LABELS,),
    ),
    Case(
        "pure middleware around",
        lambda: Pure(one()),
        ask("/items/1"),
        (inner("pure", ""), server(ITEM, 200, under="pure"), inner("inside", ITEM)),
        (ITEM_LABELS,),
    ),
    Case(
        "exception handlers",
        handlers,
        all_of(ask("/teapot", status=418), ask("/broken", status=500)),
        (
            server("GET /teapot", 418),
            server("GET /broken", 500, status=ERROR, has={"error.type": "LookupError"}),
        ),
        (labels("GET", "/teapot", 418), labels("GET", "/broken", 500, error__type="LookupError")),
        exceptions=("LookupError",),
    ),
    Case(
        "HTTPException",
        one,
        all_of(ask("/missing", status=404), ask("/down", status=503)),
        (server("GET /missing", 404), server("GET /down", 503, status=ERROR, has={"error.type": "503"})),
        (labels("GET", "/missing", 404), labels("GET", "/down", 503, error__type="503")),
    ),
    Case(
        "validation errors",
        validated,
        ask(
            "/items/x",
            "POST",
            {"content-type": "application/json"},
            f'{{"price": "{SECRET}"}}',
            status=422,
        ),
        (server("POST /items/{number}", 422),),
        (labels("POST", "/items/{number}", 422),),
    ),
    Case(
        "an answer that is not valid",
        validated,
        ask("/answer", status=500),
        (server("GET /answer", 500, status=ERROR, has={"error.type": "fastapi.exceptions.ResponseValidationError"}),),
        (labels("GET", "/answer", 500, error__type="fastapi.exceptions.ResponseValidationError"),),
        exceptions=("fastapi.exceptions.ResponseValidationError",),
    ),
    Case(
        "an unhandled validation error",
        validated,
        ask("/own", status=500),
        (server("GET /own", 500, status=ERROR, has={"error.type": "pydantic_core._pydantic_core.ValidationError"}),),
        (labels("GET", "/own", 500, error__type="pydantic_core._pydantic_core.ValidationError"),),
        exceptions=("pydantic_core._pydantic_core.ValidationError",),
    ),
    Case(
        "unhandled errors",
        one,
        ask("/broken", status=500),
        (server("GET /broken", 500, status=ERROR, has={"error.type": "LookupError"}),),
        (labels("GET", "/broken", 500, error__type="LookupError"),),
        exceptions=("LookupError",),
    ),
    Case(
        "lifespan",
        living,
        ask("/items/1"),
        (inner("opens", ""), *items(), inner("closes", "")),
        (ITEM_LABELS,),
        at_the_end=1,
    ),
    Case(
        "other methods",
        within_cors,
        all_of(
            ask("/items/1", "HEAD", status=405),
            ask("/items/1", "OPTIONS", {"Origin": "http://x", "Access-Control-Request-Method": "GET"}),
            ask("/items/1", "DELETE", status=405),
            ask("/items/1", "BREW", status=405),
            ask("/m/plain/1", "HEAD"),
        ),
        (
            server("HEAD /items/{item}", 405),
            server("OPTIONS", 200),
            server("DELETE /items/{item}", 405),
            server(
                "HTTP /items/{item}",
                405,
                has={"http.request.method": "_OTHER", "http.request.method_original": "BREW"},
            ),
            server("HEAD /m/plain/{n}", 200),
        ),
        (
            labels("HEAD", "/items/{item}", 405),
            labels("OPTIONS", None, 200),
            labels("DELETE", "/items/{item}", 405),
            labels("_OTHER", "/items/{item}", 405),
            labels("HEAD", "/m/plain/{n}", 200),
        ),
    ),
    Case(
        "static files",
        static,
        all_of(ask(f"/static/{Path(__file__).name}"), ask("/static/nothing", status=404)),
        (server("GET /static/{path}", 200), server("GET /static/{path}", 404)),
        (labels("GET", "/static/{path}", 200), labels("GET", "/static/{path}", 404)),
    ),
    Case(
        "captured headers",
        one,
        ask("/items/1", headers={"X-Plan": "pro", "X-Card": SECRET, "Authorization": SECRET, "Cookie": SECRET}),
        (
            server(
                ITEM,
                200,
                has={
                    "http.request.header.x-plan": ["pro"],
                    "http.request.header.x-card": ["[REDACTED]"],
                    "http.request.header.authorization": ["[REDACTED]"],
                    "http.response.header.content-type": ["application/json"],
                },
                lacks=("http.request.header.host",),
            ),
            inner("inside", ITEM),
        ),
        (ITEM_LABELS,),
        settings={
            "capture_request_headers": "x-.*,authorization,cookie",
            "capture_response_headers": "content-type",
            "sanitize_headers": "x-card",
        },
    ),
    Case(
        "query values",
        one,
        ask(f"/items/1?token={SECRET}&page"),
        (server(ITEM, 200, has={"url.query": "token=REDACTED&page"}), inner("inside", ITEM)),
        (ITEM_LABELS,),
    ),
    Case(
        "excluded URLs",
        after,
        all_of(ask("/tasks", recorded=False), ask("/yields", recorded=False)),
        (),
        (),
        settings={"excluded_urls": "/tasks$,^http://[^/]*/yields"},
    ),
    Case(
        "no route",
        one,
        all_of(
            ask("/wp-admin/x", status=404), ask("/wp-admin/x", "OPTIONS", status=404), ask("/x", "BREW", status=404)
        ),
        (
            server("GET", 404),
            server("OPTIONS", 404),
            server("HTTP", 404, has={"http.request.method": "_OTHER", "http.request.method_original": "BREW"}),
        ),
        (labels("GET", None, 404), labels("OPTIONS", None, 404), labels("_OTHER", None, 404)),
    ),
]
