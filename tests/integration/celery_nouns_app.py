"""The tasks of test_celery_nouns.py, for the workers, for beat and for the test."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import celery
from celery.exceptions import Ignore, Reject

import otelkit

if os.environ.get("TEST_BOOTSTRAP") == "1":
    otelkit.bootstrap("worker")


def make_app(broker: str, backend: str, queue: str) -> celery.Celery:
    """An app over a broker, with the tasks of all nouns."""
    app = celery.Celery("nouns", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=1,
        worker_lost_wait=0.2,
        beat_schedule={
            "each second": {"task": "nouns.beaten", "schedule": 1.0},
            "each minute": {"task": "nouns.seldom", "schedule": 60.0},
        },
        beat_max_loop_interval=0.2,
    )
    _define(app)
    return app


def _define(app: celery.Celery) -> None:
    def task(name: str, **options: Any) -> Any:
        return app.task(name=f"nouns.{name}", shared=False, **options)

    @task("add")
    def add(a: int, b: int = 1) -> int:
        return a + b

    @task("mul")
    def mul(a: int, b: int = 2) -> int:
        return a * b

    @task("total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @task("fail")
    def fail() -> None:
        raise ValueError("no stock")

    @task("flaky", bind=True, max_retries=2)
    def flaky(self: Any, times: int = 2) -> str:
        if self.request.retries < times:
            raise self.retry(exc=ConnectionError("the bank is closed"), countdown=0)
        return "done"

    @task("outer")
    def outer() -> str:
        return str(add.delay(1).id)

    @task("told")
    def told(task_id: str) -> str:
        return task_id

    @task("replaced", bind=True)
    def replaced(self: Any) -> None:
        raise self.replace(add.s(1))

    @task("reject")
    def reject() -> None:
        raise Reject("no", requeue=False)

    @task("again", bind=True, acks_late=True)
    def again(self: Any) -> None:
        if not self.request.delivery_info["redelivered"]:
            raise Reject("later", requeue=True)

    @task("ignore")
    def ignore() -> None:
        raise Ignore

    @task("soft", soft_time_limit=1)
    def soft() -> None:
        time.sleep(30)

    @task("hard", time_limit=1)
    def hard() -> None:
        time.sleep(30)

    @task("lost")
    def lost() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @task("redelivered", bind=True, acks_late=True, reject_on_worker_lost=True)
    def redelivered(self: Any) -> str:
        if not self.request.delivery_info["redelivered"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    @task("sleeper")
    def sleeper() -> None:
        time.sleep(30)

    @task("beaten")
    def beaten() -> None:
        add.delay(1)

    @task("seldom")
    def seldom() -> None:
        """Not within the time of a test."""

    class Audited(celery.Task):  # type: ignore[misc]
        """A class of the application's own around every task that is based on it."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with otelkit.span("audited"):
                return super().__call__(*args, **kwargs)

    @task("audited", base=Audited, bind=True)
    def audited(self: Any) -> bool:
        return isinstance(self, Audited)

    class Export(Audited):
        """A task as a class."""

        name = "nouns.export"

        def run(self, fmt: str) -> str:
            return fmt

    class Csv(Export):
        """That inherits another one."""

        name = "nouns.csv"

        def run(self, fmt: str = "csv") -> str:
            return str(super().run(fmt))

    app.register_task(Export())
    app.register_task(Csv())


if "TEST_BROKER" in os.environ:
    app = make_app(os.environ["TEST_BROKER"], os.environ["TEST_BACKEND"], os.environ["TEST_QUEUE"])
