"""The tasks of test_celery.py, for the worker process and for the test."""

from __future__ import annotations

import logging
import os
from typing import Any

import celery
import sqlalchemy

import otelkit

app = celery.Celery(
    "tests",
    broker=os.environ.get("TEST_BROKER", "memory://"),
    backend=os.environ.get("TEST_BROKER", "cache+memory://"),
)
app.conf.update(
    task_default_queue=os.environ.get("TEST_QUEUE", "celery"),
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
)
engine = sqlalchemy.create_engine("sqlite://")
logger = logging.getLogger("shop.tasks")

if os.environ.get("TEST_BOOTSTRAP") == "1":
    otelkit.bootstrap("worker")


@app.task(name="shop.add")
def add(a: int, b: int) -> int:
    otelkit.bind(step="adding")
    with engine.connect() as connection, otelkit.span("business"):
        connection.execute(sqlalchemy.text("SELECT 1"))
    logger.info("adding %s and %s", a, b)
    otelkit.count("tasks.done")
    return a + b


@app.task(name="shop.fail")
def fail() -> None:
    raise ValueError("no stock")


@app.task(name="shop.flaky", bind=True, max_retries=2)
def flaky(self: Any) -> str:
    if self.request.retries < 2:
        try:
            raise ConnectionError("the bank is closed")
        except ConnectionError as error:
            raise self.retry(exc=error, countdown=0) from None
    return "done"


@app.task(name="shop.echo", bind=True, max_retries=1)
def echo(self: Any, card: str) -> str:
    if not self.request.retries:
        raise self.retry(countdown=0)
    return card


@app.task(name="shop.parent")
def parent() -> None:
    add.delay(1, 1)
