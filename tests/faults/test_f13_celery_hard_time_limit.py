"""A Celery task runs into its hard time limit: written ahead, the spans that had ended arrive, and it is not active."""

from __future__ import annotations

from pathlib import Path

import celery
import pytest

from examples.shop.redis_server import redis_server
from tests.support.server import FAST, clean_environment, running
from tests.support.sink import Sink

TASKS = """
import os
import time
import celery
import otelkit
otelkit.bootstrap("worker")
app = celery.Celery("tasks", broker=os.environ["TEST_BROKER"])
app.conf.update(broker_connection_retry_on_startup=True)

@app.task(name="work", time_limit=2)
def work():
    for number in range(100):
        with otelkit.span("inside", n=number):
            pass
    time.sleep(60)

@app.task(name="hang", time_limit=4)
def hang():
    time.sleep(60)

@app.task(name="long")
def long():
    time.sleep(12)

@app.task(name="killed")
def killed():
    time.sleep(2)
    os.kill(os.getpid(), 9)
"""


def test_what_had_ended_arrives(tmp_path: Path, sink: Sink) -> None:
    """Whatever signal the pool ends the child with; its worker sends what it had written."""
    (tmp_path / "tasks.py").write_text(TASKS)
    with redis_server() as broker:
        environ = clean_environment(
            **FAST,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
            OTELKIT_STATE_DIR=str(tmp_path / "state"),
            OTELKIT_SPOOL="always",
            TEST_BROKER=broker,
        )
        command = ["celery", "-A", "tasks", "worker", "-c", "1", "-l", "WARNING"]
        log = tmp_path / "log"
        with running(command, cwd=tmp_path, environ=environ, log=log), celery.Celery(broker=broker) as producer:
            producer.send_task("work")
            sink.wait_for(lambda: "Hard time limit" in log.read_text(), "the time limit", deadline_s=60)
            sink.wait_for(lambda: len({s.span_id for s in sink.named("inside")}) == 100, "100 spans", deadline_s=30)


@pytest.mark.parametrize("name", ["hang", "killed"])
@pytest.mark.slow
def test_a_killed_childs_task_is_not_active_any_more(tmp_path: Path, sink: Sink, name: str) -> None:
    """It ends with the child in the sum over all of the worker's processes; the other child's task stays."""
    (tmp_path / "tasks.py").write_text(TASKS)
    with redis_server() as broker:
        environ = clean_environment(
            **FAST,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
            OTELKIT_STATE_DIR=str(tmp_path / "state"),
            TEST_BROKER=broker,
        )
        command = ["celery", "-A", "tasks", "worker", "-c", "2", "-l", "WARNING"]

        def active(task: str) -> float:
            return sink.total("celery.task.active", celery__task__name=task)

        log = tmp_path / "log"
        with running(command, cwd=tmp_path, environ=environ, log=log), celery.Celery(broker=broker) as producer:
            producer.send_task(name)
            sink.wait_for(lambda: active(name) == 1, "the task", deadline_s=60)
            producer.send_task("long")
            sink.wait_for(lambda: active("long") == 1, "the other child's task", deadline_s=30)
            sink.wait_for(lambda: active(name) == 0, "its end", deadline_s=30)
            assert active("long") == 1
