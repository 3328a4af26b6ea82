"""Captured tests of an application on FastAPI, SQLAlchemy and Celery, as its own tests would be written."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import celery
import httpx
import pytest
import sqlalchemy
from fastapi import FastAPI
from sqlalchemy.pool import StaticPool

import otelkit
from otelkit import semconv
from otelkit.testing import Captured

logger = logging.getLogger("shop")


class Shop:
    """An application with a database and a task queue that runs its tasks at once."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.engine = sqlalchemy.create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        self.queue = celery.Celery("shop", broker="memory://")
        self.queue.conf.task_always_eager = True
        with self.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)")
            connection.exec_driver_sql("INSERT INTO items VALUES (1, 'tea'), (2, 'cup')")

        @self.queue.task(name="shop.send_mail")
        def send_mail(order: int) -> None:
            with otelkit.span("mail.render"):
                logger.info("mail for order %d", order)

        @self.app.get("/items/{number}")
        def item(number: int) -> dict[str, Any]:
            with self.engine.connect() as connection:
                names = [
                    connection.execute(sqlalchemy.text("SELECT name FROM items WHERE id = :id"), {"id": each}).scalar()
                    for each in range(1, number + 1)
                ]
            send_mail.delay(number)
            otelkit.count("items.read", number)
            return {"names": names}

        @self.app.get("/broken")
        async def broken() -> None:
            raise LookupError("no tea")

    def get(self, path: str) -> httpx.Response:
        """The application's answer, without a server."""

        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
                return await client.get(path)

        return asyncio.run(answer())

    def close(self) -> None:
        """Lets the database go."""
        self.engine.dispose()
        self.queue.close()


@pytest.fixture
def shop() -> Any:
    """Made before the capture begins, as a module of the application would be."""
    found = Shop()
    yield found
    found.close()


def test_a_request_its_statements_and_its_eager_task_are_one_trace(shop: Shop, telemetry: Captured) -> None:
    """Though the application was made before, and never bootstrapped."""
    assert shop.get("/items/2").json() == {"names": ["tea", "cup"]}
    request = telemetry.spans.named("GET /items/{number}").one()
    assert request.kind == "server"
    assert [span.name for span in request.children] == ["SELECT items", "SELECT items", "process shop.send_mail"]
    assert request.children.queries.with_attributes({"db.system.name": "sqlite"})[1].kind == "client"
    assert telemetry.spans.named("mail.render").one().parent == request.children[-1]
    assert telemetry.logs.with_text("mail for order 2").one().trace_id == request.trace_id
    assert telemetry.metrics.value("items.read") == 2
    duration = telemetry.metrics.histogram(
        semconv.HTTP_SERVER_REQUEST_DURATION.name, {"http.route": "/items/{number}", "http.response.status_code": 200}
    )
    assert duration.count == 1
    assert telemetry.metrics.histogram(semconv.DB_CLIENT_OPERATION_DURATION.name).count == 2


def test_the_next_test_begins_at_zero(shop: Shop, telemetry: Captured) -> None:
    """Instruments of libraries too, and libraries are instrumented anew."""
    shop.get("/items/1")
    assert len(telemetry.spans.queries) == 1
    assert telemetry.metrics.histogram(semconv.HTTP_SERVER_REQUEST_DURATION.name).count == 1


def test_an_unhandled_exception_is_found_in_logs_and_spans(shop: Shop, telemetry: Captured) -> None:
    """As one record, in the failed request."""
    assert shop.get("/broken").status_code == 500
    failed = telemetry.spans.failed.one()
    assert failed.attributes["error.type"] == "LookupError"
    record = telemetry.logs.with_attributes({"exception.message": "no tea"}).one()
    assert record.span == failed
    assert "✗ LookupError: no tea  tests/integration/test_testing_frameworks.py:" in telemetry.tree()


@pytest.mark.telemetry(max_queries=2, max_spans=6, max_duration_s=10)
def test_a_budget_holds_for_a_request(shop: Shop, telemetry: Captured) -> None:
    """Two statements are allowed here; the tables were made by the fixture."""
    shop.get("/items/2")


def test_without_a_capture_nothing_is_instrumented(shop: Shop) -> None:
    """Responses are those of the bare application again."""
    assert "x-request-id" not in shop.get("/items/1").headers
