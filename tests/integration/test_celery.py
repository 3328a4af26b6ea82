"""Celery with a real prefork worker on a real Redis: publish and process in one trace, waits, retries, failures."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import otelkit
from tests.integration.conftest import Exported
from tests.support.server import FAST, clean_environment, running
from tests.support.sink import ReceivedSpan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def queue(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A queue of this test's own, for the app in this process as well."""
    name = f"q-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("TEST_BROKER", redis_url)
    monkeypatch.setenv("TEST_QUEUE", name)
    return name


@pytest.fixture
def tasks(queue: str) -> Any:
    """The module of the tasks, configured for the queue."""
    sys.modules.pop("tests.integration.celery_app", None)
    return importlib.import_module("tests.integration.celery_app")


@contextmanager
def worker(
    exported: Exported, queue: str, redis_url: str, folder: Path, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A real worker that exports to the same receiver; ready when it says so."""
    log = folder / "worker.log"
    environ = clean_environment(
        **FAST,
        TEST_BROKER=redis_url,
        TEST_QUEUE=queue,
        TEST_BOOTSTRAP="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=exported.sink.url,
    )
    command = ["celery", "-A", "tests.integration.celery_app", "worker", "-Q", queue, "-l", "INFO", *options]
    with running(command, cwd=ROOT, environ=environ, log=log) as process:
        deadline = time.monotonic() + 30
        while " ready." not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process


def spans(exported: Exported, name: str, count: int = 1) -> list[ReceivedSpan]:
    """The spans of a name, once there are as many; what a child sent at its end may come twice."""
    exported.flush()

    def found() -> list[ReceivedSpan]:
        return list({span.span_id: span for span in exported.sink.named(name)}.values())

    exported.sink.wait_for(lambda: len(found()) >= count, f"{count} x {name}")
    assert len(found()) == count
    return found()


@pytest.mark.slow
def test_what_a_task_gets_and_returns_is_printed_by_the_worker_and_never_exported(
    exported: Exported, tasks: Any, queue: str, redis_url: str, tmp_path: Path
) -> None:
    """Celery's own lines about a success, a retry and a task that nobody knows, at DEBUG too."""
    with worker(exported, queue, redis_url, tmp_path, "-c", "1", "-l", "DEBUG"):
        tasks.app.send_task("shop.nowhere", args=["s3cret-card"], queue=queue)
        assert tasks.echo.delay("s3cret-card").get(timeout=20) == "s3cret-card"
        exported.sink.wait_for(
            lambda: any("succeeded in" in str(log.body) for log in exported.sink.logs), "the line of the success"
        )
    printed = (tmp_path / "worker.log").read_text()
    for holds in (": 's3cret-card'", "TaskPool: Apply", "full contents of the message body was"):
        assert holds in printed
    told = {str(log.body) for log in exported.sink.logs if log.scope.startswith("celery.")}
    assert any(re.fullmatch(r"Task shop\.echo\[.+\] succeeded in .+s: REDACTED", body) for body in told)
    assert any(re.match(r"Task shop\.echo\[.+\] retry: Retry in 0s", body) for body in told)
    assert any("unregistered task of type 'shop.nowhere'" in body for body in told)
    assert any(body.startswith("TaskPool: Apply ") for body in told)
    assert [log.scope for log in exported.sink.logs if "s3cret" in str(log.record)] == []


@pytest.mark.slow
def test_a_task_is_one_trace_from_the_caller_to_the_worker(
    exported: Exported, tasks: Any, queue: str, redis_url: str, tmp_path: Path
) -> None:
    """Caller, publish, process in the worker, its statement and business span; bound values and ids come along."""
    with worker(exported, queue, redis_url, tmp_path, "-c", "2"):
        with otelkit.span("caller"):
            otelkit.bind(user_id="u7", request_id="r1")
            assert tasks.add.delay(2, 3).get(timeout=20) == 5
        process = spans(exported, "process shop.add")[0]
        exported.sink.wait_for(
            lambda: exported.sink.total("messaging.process.duration", celery__task__state="SUCCESS") == 1,
            "a measured task",
        )
    otelkit.unbind()
    caller, publish = exported.span("caller"), exported.span("publish shop.add")
    business = next(span for span in exported.spans if span.name == "business")
    statement = next(span for span in exported.spans if span.scope == "otelkit.sqlalchemy")
    assert {span.trace_id for span in (caller, publish, process, business, statement)} == {caller.trace_id}
    assert publish.parent_id == caller.span_id
    assert process.parent_id == publish.span_id
    assert business.parent_id == process.span_id
    assert statement.parent_id == business.span_id
    assert (publish.span.kind, process.span.kind) == (4, 5)
    assert process.resource["service.name"] == "worker"
    assert process.resource["process.pid"] != caller.resource["process.pid"]
    assert process.resource["service.instance.id"] != caller.resource["service.instance.id"]
    assert (process.attributes["user.id"], process.attributes["request.id"]) == ("u7", "r1")
    assert process.attributes["messaging.destination.name"] == queue
    assert 0 <= process.attributes["celery.task.queue.duration"] < 20
    line = next(log for log in exported.logs("shop.tasks"))
    assert line.record.trace_id.hex() == caller.trace_id
    assert line.attributes["user.id"] == "u7"
    assert exported.total("messaging.client.sent.messages", celery__task__name="shop.add") == 1
    assert exported.total("messaging.client.consumed.messages", celery__task__name="shop.add") == 1
    assert exported.total("celery.task.queue.duration") == 1
    waited = process.attributes["celery.task.queue.duration"]
    assert exported.sink.seconds("celery.task.queue.duration") == pytest.approx(waited)
    measured = exported.sink.seconds("messaging.process.duration")
    assert 0 < measured <= process.duration_s + 0.01
    assert exported.total("celery.task.active") == 0
    assert exported.total("tasks.done") == 1


@pytest.mark.slow
def test_kombus_own_redis_commands_are_no_spans(
    exported: Exported, tasks: Any, queue: str, redis_url: str, tmp_path: Path
) -> None:
    """Neither the sending nor the worker's polling shows up as Redis spans."""
    with otelkit.span("caller"):
        tasks.add.apply_async((1, 2), ignore_result=True)
    assert sorted(span.name for span in exported.spans) == ["caller", "publish shop.add"]


@pytest.mark.slow
def test_failures_and_retries(exported: Exported, tasks: Any, queue: str, redis_url: str, tmp_path: Path) -> None:
    """Each attempt is a span of its own under the same publish chain; retries and failures are counted by type."""
    with worker(exported, queue, redis_url, tmp_path, "-c", "1"):
        with otelkit.span("caller"):
            failing = tasks.fail.delay()
            assert tasks.flaky.delay().get(timeout=20) == "done"
            with pytest.raises(ValueError, match="no stock"):
                failing.get(timeout=20)
        attempts = spans(exported, "process shop.flaky", 3)
        failed = spans(exported, "process shop.fail")[0]
        exported.sink.wait_for(lambda: exported.sink.total("celery.task.retries") == 2, "two retries")
        exported.sink.wait_for(lambda: exported.sink.total("celery.task.failures") == 1, "one failure")
    assert [span.attributes["celery.task.retries"] for span in attempts] == [0, 1, 2]
    assert [span.attributes["celery.task.state"] for span in attempts] == ["RETRY", "RETRY", "SUCCESS"]
    assert [span.span.status.code for span in attempts] == [0, 0, 0]
    assert {span.trace_id for span in attempts} == {exported.span("caller").trace_id}
    publishes = {span.span_id for span in exported.spans if span.name == "publish shop.flaky"}
    assert {span.parent_id for span in attempts} == publishes
    assert failed.attributes["error.type"] == "ValueError"
    assert failed.span.status.code == 2
    records = [log for log in exported.logs("otelkit.exceptions") if "no stock" in str(log.body)]
    assert len(records) == 1
    assert exported.total("celery.task.failures", error__type="ValueError") == 1
    assert exported.total("celery.task.retries", error__type="ConnectionError") == 2


@pytest.mark.slow
def test_a_task_from_a_task(exported: Exported, tasks: Any, queue: str, redis_url: str, tmp_path: Path) -> None:
    """The second task's trace is the first one's."""
    with worker(exported, queue, redis_url, tmp_path, "-c", "1"):
        tasks.parent.delay()
        inner = spans(exported, "process shop.add")[0]
        outer = spans(exported, "process shop.parent")[0]
    publish = next(span for span in exported.sink.named("publish shop.add"))
    assert (inner.parent_id, publish.parent_id) == (publish.span_id, outer.span_id)


@pytest.mark.slow
def test_children_that_end_after_each_task_lose_nothing(
    exported: Exported, tasks: Any, queue: str, redis_url: str, tmp_path: Path
) -> None:
    """max_tasks_per_child=1: every span of every child arrives (fault 12)."""
    with worker(exported, queue, redis_url, tmp_path, "-c", "2", "--max-tasks-per-child", "1"):
        results = [tasks.add.delay(number, 1) for number in range(10)]
        assert [result.get(timeout=40) for result in results] == list(range(1, 11))
        found = spans(exported, "process shop.add", 10)
        exported.sink.wait_for(lambda: exported.sink.total("messaging.process.duration") == 10, "ten measured tasks")
    assert len({span.resource["process.pid"] for span in found}) >= 5
    assert exported.total("tasks.done") == 10


def test_eager_tasks(start: Callable[..., Exported], tasks: Any) -> None:
    """A task that runs at once in the caller is its child, with what is bound there, without any wait in a queue; what
    it binds itself ends with it.
    """
    exported = start()
    tasks.app.conf.task_always_eager = True
    try:
        with otelkit.span("caller"), otelkit.bind(tenant="acme"):
            tasks.add.delay(1, 2)
            with otelkit.span("after"):
                pass
    finally:
        tasks.app.conf.task_always_eager = False
    for name in ("process shop.add", "business"):
        found = exported.span(name).attributes
        assert (found["tenant"], found["step"]) == ("acme", "adding"), name
    assert exported.span("after").attributes == {"tenant": "acme"}
    (log,) = exported.logs("shop.tasks")
    assert log.attributes["tenant"] == "acme"
    process = exported.span("process shop.add")
    assert process.parent_id == exported.span("caller").span_id
    assert "celery.task.queue.duration" not in process.attributes
    assert exported.total("celery.task.queue.duration") == 0


def test_a_task_goes_on_after_an_eager_one_within_it(start: Callable[..., Exported]) -> None:
    """Each has a span of its own, and the outer one's end is its own."""
    exported = start()
    app = Celery("eager", broker="memory://")

    @app.task(name="inner")
    def within() -> None:
        """Nothing."""

    @app.task(name="outer")
    def around() -> None:
        within.apply()

    around.apply()

    outer = exported.span("process outer")
    assert exported.span("process inner").parent_id == outer.span_id
    assert outer.attributes["celery.task.state"] == "SUCCESS"
