"""Fault 11: a Celery worker with a pool of forked children: ten tasks, ten spans."""

from __future__ import annotations

from pathlib import Path

import celery

from examples.shop.redis_server import redis_server
from tests.support.server import FAST, clean_environment, running
from tests.support.sink import Sink

TASKS = """
import os
import celery
import otelkit
otelkit.bootstrap("worker")
app = celery.Celery("tasks", broker=os.environ["TEST_BROKER"])
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1)

@app.task(name="work")
def work(number):
    with otelkit.span("inside", n=number):
        otelkit.count("worked")
"""


def test_ten_tasks_are_ten_spans(tmp_path: Path, sink: Sink) -> None:
    """Each of the child that ran it, with what the task itself records below it."""
    (tmp_path / "tasks.py").write_text(TASKS)
    log = tmp_path / "log"
    with redis_server() as broker, celery.Celery("producer", broker=broker) as producer:
        environ = clean_environment(
            **FAST,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
            OTELKIT_STATE_DIR=str(tmp_path / "state"),
            TEST_BROKER=broker,
        )
        command = ["celery", "-A", "tasks", "worker", "-c", "3", "-l", "WARNING"]
        with running(command, cwd=tmp_path, environ=environ, log=log) as worker:
            for number in range(10):
                producer.send_task("work", (number,))
            sink.wait_for(lambda: len(sink.named("process work")) >= 10, "ten tasks", deadline_s=60)
            sink.wait_for(lambda: len(sink.named("inside")) >= 10, "what they record")
            sink.wait_for(lambda: sink.total("worked") >= 10, "their counts")
    tasks, inside = sink.named("process work"), sink.named("inside")
    assert len({span.span_id for span in tasks}) == len(tasks) == 10
    assert sorted(span.attributes["n"] for span in inside) == list(range(10))
    assert {span.parent_id for span in inside} == {span.span_id for span in tasks}
    assert worker.pid not in {span.resource["process.pid"] for span in tasks}
    assert len({span.resource["service.instance.id"] for span in tasks}) == len(
        {span.resource["process.pid"] for span in tasks}
    )
    assert sink.total("worked") == 10
