"""FastAPI and Starlette in all the ways that applications use them: every span, its parent, and every measurement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import starlette

import otelkit
from tests.integration.conftest import Exported, Serve
from tests.integration.web_apps import CASES, ITEM_LABELS, one
from tests.integration.web_cases import SECRET, Case
from tests.support.server import get

STARLETTE = tuple(map(int, starlette.__version__.split(".")[:2]))
LEAKS = "leaves streams of its own open below BaseHTTPMiddleware"
OTHERWISE = {
    "a stream that fails": "raises it within a group",
    "BaseHTTPMiddleware around": LEAKS,
    "BaseHTTPMiddleware inside": LEAKS,
    "an error through BaseHTTPMiddleware": LEAKS,
    "both inside": LEAKS,
}
DURATION, ACTIVE = "http.server.request.duration", "http.server.active_requests"
MESSAGES = "websocket.messages.received"  # of a websocket's span


@pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")  # uvicorn of 2024
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.noun)
def test_what_is_recorded(start: Callable[..., Exported], serve: Serve, case: Case) -> None:
    """Exactly these spans under these parents, exactly these series, and no value of a client's anywhere."""
    if STARLETTE < (0, 40) and case.noun in OTHERWISE:
        pytest.skip(f"Starlette before 0.40 {OTHERWISE[case.noun]}")
    app = case.app() if case.before else None
    exported = start(**case.settings)
    with serve(app if app is not None else case.app(), **case.served) as url:
        case.ask(url)
        exported.wait_for_spans(len(case.spans) - case.at_the_end)
    spans = exported.spans
    expected = sorted(case.spans, key=lambda span: span.name)
    found = sorted(spans, key=lambda span: span.name)
    assert [span.name for span in found] == [span.name for span in expected]
    names = {span.span_id: span.name for span in spans}
    for wanted, span in zip(expected, found, strict=True):
        assert names.get(span.parent_id, span.parent_id) == wanted.under, span.name
        assert (span.span.kind, span.span.status.code) == (wanted.kind, wanted.status), span.name
        assert {name: span.attributes.get(name) for name in wanted.has} == dict(wanted.has), span.name
        assert not span.attributes.keys() & set(wanted.lacks), (span.name, span.attributes)
    assert measured(exported) == sorted((sorted(each.items(), key=str) for each in case.measured), key=str)
    requests = [span for span in spans if span.scope == "otelkit.asgi" and MESSAGES not in span.attributes]
    seconds = sum(span.duration_s for span in requests)
    assert 0 < exported.sink.seconds(DURATION) <= seconds + 0.01 or not requests
    assert {labels for _, labels in exported.sink.series(ACTIVE)} == {
        tuple((name, each[name]) for name in ("http.request.method", "url.scheme")) for each in case.measured
    }
    for metric, series in case.metrics.items():
        assert {
            tuple(dict(labels).items()): values[-1] for (_, labels), values in exported.sink.series(metric).items()
        } == series
    assert exported.total(ACTIVE) == 0
    records = exported.logs("otelkit.exceptions")
    assert [record.attributes["exception.type"] for record in records] == list(case.exceptions)
    assert SECRET not in str([exported.sink.spans, exported.sink.logs, exported.sink.metrics])


def measured(exported: Exported) -> list[list[tuple[str, object]]]:
    """The labels of the duration's series, each as often as it counted."""
    found = []
    for (_, labels), counts in exported.sink.series(DURATION).items():
        found += [sorted(labels, key=str)] * int(counts[-1])
    return sorted(found, key=str)


def test_every_attribute_of_a_request(exported: Exported, serve: Serve) -> None:
    """As the conventions call them, and no other."""
    headers = {"user-agent": "cashier/1", "x-request-id": "order-17"}
    with serve(one()) as url:
        assert get(f"{url}/items/1?page=2", headers)[0] == 200
    found = exported.span("GET /items/{item}").attributes
    assert found.pop("client.port") > 0
    assert found == {
        "http.request.method": "GET",
        "http.route": "/items/{item}",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/items/1",
        "url.query": "page=REDACTED",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": urlsplit(url).port,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "user_agent.original": "cashier/1",
        "request.id": "order-17",
    }


def by_test_client(app: Any) -> int:
    """Starlette's, as applications' tests have it."""
    from starlette.testclient import TestClient

    with TestClient(app, base_url="http://shop") as client:
        return int(client.get("/items/1").status_code)


def by_transport(app: Any) -> int:
    """httpx without a network."""

    async def answer() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
            return (await client.get("/items/1")).status_code

    return asyncio.run(answer())


@pytest.mark.skipif(STARLETTE < (0, 40), reason="Starlette's TestClient before 0.40 leaves streams of its own open")
@pytest.mark.parametrize("client", [by_test_client, by_transport])
@pytest.mark.parametrize("traced", [False, True], ids=["alone", "in a span"])
def test_clients_without_a_server(start: Callable[..., Exported], client: Callable[[Any], int], traced: bool) -> None:
    """The same spans and measurement as with one; under the span of the test, where that has one."""
    exported = start(instrument={"httpx": "off"})
    if traced:
        with otelkit.span("test"):
            assert client(one()) == 200
    else:
        assert client(one()) == 200
    spans = {span.name: span for span in exported.spans}
    assert spans.keys() == {"GET /items/{item}", "inside", *(["test"] if traced else [])}
    server = spans["GET /items/{item}"]
    assert spans["inside"].parent_id == server.span_id
    assert server.parent_id == (spans["test"].span_id if traced else "")
    assert (server.span.kind, server.span.status.code) == (2, 0)
    assert server.attributes["server.address"] == "shop"
    assert measured(exported) == [sorted(ITEM_LABELS.items())]
