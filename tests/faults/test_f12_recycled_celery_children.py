"""max_tasks_per_child=1, ten tasks, ten spans: with a collector, and with one that is away until they have ended."""

from __future__ import annotations

import time
from pathlib import Path

import celery
import pytest

from examples.shop.redis_server import redis_server
from tests.faults.spooled import nobody
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
def work():
    with otelkit.span("inside"):
        pass
    with open("executed", "ab", buffering=0) as file:
        file.write(b".")
"""


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
@pytest.mark.slow
def test_every_tasks_spans_arrive(tmp_path: Path, away: bool) -> None:
    """What a child could not send within its 200 ms the main process sends: it lives."""
    (tmp_path / "tasks.py").write_text(TASKS)
    with nobody() as port, redis_server() as broker:
        environ = clean_environment(
            **FAST,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTELKIT_STATE_DIR=str(tmp_path / "state"),
            TEST_BROKER=broker,
        )
        command = ["celery", "-A", "tasks", "worker", "-c", "2", "--max-tasks-per-child", "1", "-l", "WARNING"]
        producer = celery.Celery("producer", broker=broker)

        def publish_and_wait() -> None:
            for _ in range(10):
                producer.send_task("work")
            deadline = time.monotonic() + 60
            executed = tmp_path / "executed"
            while not executed.exists() or executed.stat().st_size < 10:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)

        with running(command, cwd=tmp_path, environ=environ, log=tmp_path / "log"):
            if away:
                publish_and_wait()
            with Sink(port=port) as sink:
                if not away:
                    publish_and_wait()
                # Unique ones: what a child could not have acknowledged in its time may come twice.
                sink.wait_for(lambda: len({s.span_id for s in sink.named("inside")}) == 10, "ten spans", deadline_s=60)
                sink.wait_for(lambda: len({s.span_id for s in sink.named("process work")}) == 10, "ten tasks")
        producer.close()
