"""Workers that are recycled all the time: Prometheus has one series of each metric, exact, whose increase is right."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import celery
import pytest

from examples.shop.redis_server import redis_server
from otelkit.stack.native import NativeStack
from otelkit.stack.queries import NotYet, prometheus_query, wait_for
from tests.support.server import (
    clean_environment,
    free_port,
    get,
    running,
    wait_until_no_worker_starts,
    wait_until_up,
)

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

TASKS = 200
REQUESTS_PER_S = 40.0
ENGINES = ("otelkit", "sdk")

APP = """
import os
import otelkit
otelkit.bootstrap("many-web")
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
def index():
    otelkit.count("visits")
    with open("visited", "ab", buffering=0) as file:
        file.write(b".")
    return os.getpid()
"""
TASKS_MODULE = """
import os
import celery
import otelkit
otelkit.bootstrap("many-worker")
app = celery.Celery("tasks", broker=os.environ["TEST_BROKER"])
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1)

@app.task(name="count")
def count():
    otelkit.count("tasks.counted")
    with open("executed", "ab", buffering=0) as file:
        file.write(b".")
"""


@dataclass
class Run:
    """What the processes did: requests answered, their workers, and where the numbers can be asked for."""

    engine: str
    stack: NativeStack
    visits: int
    pids: set[bytes]
    pulled: str
    series_half_way: float

    def query(self, promql: str, of: str = "") -> float:
        """One number, 0 where there is none; `{}` in the expression selects this run and `of`."""
        chosen = f'{{deployment_environment_name="{self.engine}"{of}}}'
        found = prometheus_query(self.stack.prometheus, promql.replace("{}", chosen))
        return found[0].value if found else 0.0

    def settled(self, promql: str, expected: float) -> None:
        """Waits until Prometheus says so."""

        def there() -> bool:
            if (found := self.query(promql)) != expected:
                raise NotYet(f"{promql} is {found}, not {expected}")
            return True

        wait_for(there, deadline_s=40, what=promql)


@pytest.fixture(scope="module", params=ENGINES)
def run(
    request: pytest.FixtureRequest, native_stack: NativeStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """4 gunicorn workers that end after 50 requests, and 200 tasks in Celery children that live for one each."""
    engine, folder = request.param, tmp_path_factory.mktemp("many")
    (folder / "web.py").write_text(APP)
    (folder / "tasks.py").write_text(TASKS_MODULE)
    port, pull_port = free_port(), free_port()
    log, worker_log = folder / "web.log", folder / "worker.log"
    with ExitStack() as stack:
        broker = stack.enter_context(redis_server())
        environ = clean_environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=native_stack.otlp_http,
            OTEL_RESOURCE_ATTRIBUTES=f"deployment.environment.name={engine}",
            OTEL_METRIC_EXPORT_INTERVAL="400",
            OTELKIT_STATE_DIR=str(folder / "state"),
            OTELKIT_ENGINE=engine,
            TEST_BROKER=broker,
        )
        web = {
            **environ,
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(pull_port),
        }
        gunicorn = ["gunicorn", "web:app", "-k", "uvicorn_worker.UvicornWorker", "-w", "4", "-b", f"127.0.0.1:{port}"]
        server = stack.enter_context(running([*gunicorn, "--max-requests", "50"], cwd=folder, environ=web, log=log))
        worker = ["celery", "-A", "tasks", "worker", "-c", "4", "--max-tasks-per-child", "1", "-l", "WARNING"]
        stack.enter_context(running(worker, cwd=folder, environ=environ, log=worker_log))
        wait_until_up(f"http://127.0.0.1:{port}/nowhere", server, log)
        publishing = threading.Thread(target=_publish, args=(broker,))
        publishing.start()
        found = Run(engine, native_stack, 0, set(), "", 0.0)
        deadline = time.monotonic() + 120
        while len(found.pids) < 12 or found.visits < 600:
            assert time.monotonic() < deadline, log.read_text()
            if found.visits == 300:
                found.series_half_way = found.query("count({})")
            try:
                found.pids.add(get(f"http://127.0.0.1:{port}/")[2])
                found.visits += 1
            except OSError:  # the worker that took the connection was ending
                time.sleep(0.05)
            time.sleep(1 / REQUESTS_PER_S)
        publishing.join()
        _wait_until_executed(folder / "executed", worker_log)
        wait_until_no_worker_starts(log, 4)
        # The server's truth: where the answer was lost with its worker, the visit had been counted.
        found.visits = (folder / "visited").stat().st_size
        found.settled("sum(tasks_counted_total{})", TASKS)
        found.pulled = _pulled(pull_port, found.visits)
        yield found


def _publish(broker: str) -> None:
    producer = celery.Celery("producer", broker=broker)
    for _ in range(TASKS):
        producer.send_task("count")
    producer.close()


def _wait_until_executed(executed: Path, log: Path) -> None:
    """Until every task has run: each has a process to be forked and to be ended, so that a busy machine takes long."""
    deadline = time.monotonic() + 120
    while (done := executed.stat().st_size) < TASKS:
        assert time.monotonic() < deadline, f"{done} of {TASKS} tasks ran\n{log.read_text()}"
        time.sleep(0.1)


def _pulled(port: int, visits: int) -> str:
    """What /metrics says, as soon as the worker that serves it has all visits."""
    deadline = time.monotonic() + 20
    text = ""
    while f"visits_total {visits}.0" not in text and time.monotonic() < deadline:
        try:
            text = get(f"http://127.0.0.1:{port}/metrics")[2].decode()
        except OSError:
            time.sleep(0.1)
    return text


def test_final_values_are_exact(run: Run) -> None:
    """Of every worker and every child there was."""
    run.settled("sum(visits_total{})", run.visits)
    run.settled("sum(tasks_counted_total{})", TASKS)
    assert len(run.pids) >= 12


def test_there_is_one_series_of_each(run: Run) -> None:
    """However many processes there were; and as many as half way."""
    assert run.query("count(visits_total{})") == 1
    assert run.query("count(tasks_counted_total{})") == 1
    assert run.query("count(process_cpu_time_seconds_total{})", ',cpu_mode="user"') == 2  # one a service
    assert 0 < run.query("count({})") <= run.series_half_way * 1.1


def test_the_increase_is_right(run: Run) -> None:
    """`increase` over the whole run, by Prometheus' own arithmetic, within 5 % of what was counted."""
    assert run.query("sum(increase(visits_total{}[5m]))") == pytest.approx(run.visits, rel=0.05)
    assert run.query("sum(increase(tasks_counted_total{}[5m]))") == pytest.approx(TASKS, rel=0.05)


def test_the_same_through_pull(run: Run) -> None:
    """Whichever worker is asked."""
    assert re.search(rf"^visits_total {run.visits}\.0$", run.pulled, re.MULTILINE), run.pulled[:2000]
    assert run.pulled.count("target_info{") == 1
