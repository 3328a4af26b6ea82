"""Outgoing HTTP by contrib, held to otelkit's rules: one span a call, a child's headers, no values of parameters.

Also where the URL comes back in an exception's text, whoever records it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import requests
import urllib3

import otelkit
from tests.integration.conftest import Exported
from tests.support.contrib import needs_contrib
from tests.support.server import free_port

SECRET = "canary"


class Server(ThreadingHTTPServer):
    """Answers `/<status>` with it, and keeps the contexts that came; a 302 leads to /200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.contexts: list[str] = []
        self.paths: list[str] = []


class Answer(BaseHTTPRequestHandler):
    """One answer."""

    server: Server

    def do_GET(self) -> None:
        self.server.contexts.append(self.headers["traceparent"])
        self.server.paths.append(self.path)
        self.send_response(int(self.path[1:4]))
        self.send_header("content-length", "0")
        if self.path[1:4] == "302":
            self.send_header("location", f"/200?next={SECRET}")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Not to the tests' output."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A real server on loopback."""
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def by_httpx(url: str) -> None:
    httpx.get(url, follow_redirects=True)


def by_httpx_async(url: str) -> None:
    async def get() -> None:
        async with httpx.AsyncClient(follow_redirects=True) as client:
            await client.get(url)

    asyncio.run(get())


def by_requests(url: str) -> None:
    requests.get(url)


def by_urllib3(url: str) -> None:
    with urllib3.PoolManager() as pool:
        pool.request("GET", url)


def by_aiohttp(url: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def get() -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            await answer.read()

    asyncio.run(get())


ADDRESS = {"server.address", "server.port"}
PEER = {"network.peer.address", "network.peer.port", "network.protocol.version"}
OF_ITS_OWN = {
    "httpx": ADDRESS | PEER,
    "requests": ADDRESS | PEER | {"user_agent.original"},
    "urllib3": set(),
    "aiohttp_client": ADDRESS,
}
"""What each instrumentation adds to the attributes that all have."""

CLIENTS = pytest.mark.parametrize(
    ("call", "scope"),
    [
        pytest.param(by_httpx, "httpx", marks=needs_contrib("httpx")),
        pytest.param(by_httpx_async, "httpx", marks=needs_contrib("httpx")),
        pytest.param(by_requests, "requests", marks=needs_contrib("requests")),
        pytest.param(by_urllib3, "urllib3", marks=needs_contrib("urllib3")),
        pytest.param(by_aiohttp, "aiohttp_client", marks=needs_contrib("aiohttp-client")),
    ],
)


@pytest.mark.parametrize("status", [200, 404, 500])
@CLIENTS
def test_a_call_is_one_span(
    start: Callable[..., Exported], server: Server, call: Callable[[str], None], scope: str, status: int
) -> None:
    """Child of the caller, named by the method, with status; the server gets its context; no secret is recorded."""
    exported = start(runtime_metrics=False)
    address = f"127.0.0.1:{server.server_port}/{status}"
    with otelkit.span("caller"):
        call(f"http://{SECRET}:{SECRET}@{address}?token={SECRET}&user={SECRET}")
    span, caller = exported.span("GET"), exported.span("caller")
    assert (span.scope.rpartition(".")[2], span.span.kind, span.parent_id) == (scope, 3, caller.span_id)
    assert len(exported.spans) == 2
    assert span.span.status.code == (2 if status >= 400 else 0)
    measured = {"http.request.method": "GET", "http.response.status_code": status}
    if status >= 400:
        measured["error.type"] = str(status)
    assert {key: value for key, value in span.attributes.items() if key not in OF_ITS_OWN[scope]} == {
        **measured,
        "url.full": f"http://{address}?token=REDACTED&user=REDACTED",
    }
    where = {"server.address": "127.0.0.1", "server.port": server.server_port}
    for key in OF_ITS_OWN[scope] & where.keys():
        assert span.attributes[key] == where[key]
    assert [context.split("-")[2] for context in server.contexts] == [span.span_id]
    assert server.paths == [f"/{status}?token={SECRET}&user={SECRET}"]
    ((_, labels),) = exported.sink.series("http.client.request.duration")
    assert {key: value for key, value in labels if key != "network.protocol.version"} == {**measured, **where}
    assert exported.total("http.client.request.duration") == 1
    assert 0 < exported.sink.seconds("http.client.request.duration") <= caller.duration_s
    assert SECRET not in str(exported.sink.spans) + str(exported.sink.metrics) + str(exported.sink.logs)


@CLIENTS
def test_redirects(start: Callable[..., Exported], server: Server, call: Callable[[str], None], scope: str) -> None:
    """requests and aiohttp make one span of a call, with the last answer; httpx and urllib3 one of each request.

    All are the caller's children, and each request carries the context of its span.
    """
    exported = start(runtime_metrics=False)
    address = f"127.0.0.1:{server.server_port}"
    with otelkit.span("caller"):
        call(f"http://{address}/302?token={SECRET}")
    caller = exported.span("caller")
    spans = {span.span_id: span for span in exported.spans if span is not caller}
    assert [path[:4] for path in server.paths] == ["/302", "/200"]
    assert {span.parent_id for span in spans.values()} == {caller.span_id}
    carriers = [spans[context.split("-")[2]] for context in server.contexts]
    seen = [(span.attributes["url.full"], span.attributes["http.response.status_code"]) for span in carriers]
    first, second = f"http://{address}/302?token=REDACTED", f"http://{address}/200?next=REDACTED"
    if scope in ("requests", "aiohttp_client"):
        assert seen == [(first, 200)] * 2
        assert len(spans) == 1
    else:
        assert seen == [(first, 302), (second, 200)]
        assert len(spans) == 2
    assert not any(span.span.status.code for span in spans.values())
    assert SECRET not in str(exported.sink.spans) + str(exported.sink.metrics) + str(exported.sink.logs)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("engine", ["otelkit", "sdk"])
@pytest.mark.parametrize("handled", ["log", "handled", "unhandled"])
@CLIENTS
def test_the_text_of_an_exception_has_no_values(
    start: Callable[..., Exported], call: Callable[[str], None], scope: str, handled: str, engine: str
) -> None:
    """Of a server that is not there: on the spans, and in its record, whoever makes that."""
    exported = start(runtime_metrics=False, engine=engine)
    url = f"http://{SECRET}:{SECRET}@127.0.0.1:{free_port()}/orders?token={SECRET}&user={SECRET}"
    if handled == "unhandled":
        thread = threading.Thread(target=call, args=(url,))
        thread.start()
        thread.join()
    else:
        try:
            with otelkit.span("caller"):
                call(url)
        except Exception as error:
            if handled == "log":
                logging.getLogger("shop").exception("no answer: %s", error)
            else:
                otelkit.exception(error)
    spans = [span for span in exported.spans if span.name == "GET"]
    assert spans
    assert {span.span.status.code for span in spans} == {2}
    assert [log for log in exported.sink.logs if "exception.type" in log.attributes]
    texts = str(exported.sink.spans) + str(exported.sink.metrics) + str(exported.sink.logs)
    assert SECRET not in texts
    if scope in ("requests", "urllib3"):
        assert "/orders?token=REDACTED&user=REDACTED" in texts
