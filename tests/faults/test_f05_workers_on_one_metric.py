"""Many workers count one metric, and are recycled: one aggregated series, exact, that never falls."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from otelkit.engine.series import LIMIT, OVERFLOW
from tests.support.process import kill_session, run_python, start_python
from tests.support.server import (
    FAST,
    clean_environment,
    free_port,
    get,
    running,
    wait_until_no_worker_starts,
    wait_until_up,
)
from tests.support.sink import Sink
from tests.support.slow import slow

ENGINES = ("otelkit", *slow("sdk"))
APP = """
import os
import otelkit
otelkit.bootstrap("shop")
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
def index():
    otelkit.count("visits")
    otelkit.distribution("size", 3)
    otelkit.gauge("level", 1)
    return os.getpid()
"""
GUNICORN = ["gunicorn", "app:app", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}"]
RECYCLED = ["--max-requests", "20", "--max-requests-jitter", "5"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("command", "workers"),
    [
        pytest.param([*GUNICORN, "-w", "4", *RECYCLED], 6, marks=pytest.mark.slow),
        pytest.param([*GUNICORN, "-w", "4", *RECYCLED, "--preload"], 6, marks=pytest.mark.slow),
        pytest.param([*GUNICORN, "-w", "1", *RECYCLED], 3, marks=pytest.mark.slow),
        (["uvicorn", "app:app", "--port", "{port}", "--workers", "3"], 3),
    ],
    ids=["gunicorn", "gunicorn-preload", "gunicorn-one-worker", "uvicorn-workers"],
)
def test_a_servers_workers(sink: Sink, tmp_path: Path, command: list[str], workers: int, engine: str) -> None:
    """Requests over two more workers than there are at a time; uvicorn does not recycle its own."""
    (tmp_path / "app.py").write_text(APP)
    port, log = free_port(), tmp_path / "log"
    environ = clean_environment(
        **FAST,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
        OTELKIT_STATE_DIR=str(tmp_path / "state"),
        OTELKIT_SHUTDOWN_TIMEOUT_S="10",
        OTELKIT_ENGINE=engine,
    )
    with running([word.format(port=port) for word in command], cwd=tmp_path, environ=environ, log=log) as process:
        wait_until_up(f"http://127.0.0.1:{port}/nowhere", process, log)
        answered = 0
        pids: set[bytes] = set()
        deadline = time.monotonic() + 60
        while len(pids) < workers or answered < 60:
            assert time.monotonic() < deadline, log.read_text()
            try:
                pids.add(get(f"http://127.0.0.1:{port}/")[2])
                answered += 1
            except OSError:  # the worker that took the connection was ending
                time.sleep(0.05)
        if "-w" in command:
            wait_until_no_worker_starts(log, int(command[command.index("-w") + 1]))
    assert len(sink.named("GET /")) >= answered
    sink.wait_for(lambda: sink.total("visits") >= answered, f"{answered} visits\n{log.read_text()}")
    assert sink.one_series("visits")[-1] == len(sink.named("GET /")) == sink.one_series("size")[-1]
    slots = {dict(labels).get("otelkit.process.slot") for _, labels in sink.series("level")}
    assert len(slots) <= 8


CHILDREN = """
import multiprocessing, os, sys, time, otelkit

def bootstrap():
    otelkit.bootstrap("shop", otlp_endpoint={url!r}, metric_export_interval_s=0.3, shutdown_timeout_s=10)

def work(amount):
    bootstrap()
    otelkit.count("visits", amount)
    with otelkit.span("work"):
        return amount

if __name__ == "__main__":
    with multiprocessing.get_context({how!r}).Pool(2, maxtasksperchild=1) as pool:
        assert sum(pool.map(work, range(1, 11), chunksize=1)) == 55
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize("how", ["fork", *slow("spawn", "forkserver")])
def test_the_children_of_multiprocessing(sink: Sink, tmp_path: Path, how: str) -> None:
    """Each lives for one task."""
    (tmp_path / "main.py").write_text(CHILDREN.format(url=sink.url, how=how))
    run_python("import runpy; runpy.run_path('main.py', run_name='__main__')", cwd=tmp_path, deadline_s=60)
    sink.wait_for(lambda: sink.total("visits") == 55, "55 visits")
    assert sink.one_series("visits")[-1] == 55


LEADER = """
import os, sys, time, otelkit
otelkit.bootstrap("shop", otlp_endpoint={url!r}, metric_export_interval_s=0.5, shutdown_timeout_s=10)
with otelkit.span("parent"): pass
children = []
for number in range(4):
    child = os.fork()
    if child == 0:
        for round in range({rounds}):
            otelkit.count("visits"{labels})
            with otelkit.span("child"): pass
        while True:
            time.sleep(0.1)
            group = otelkit.status()["metrics_group"]
            if group and group.get("leader"):
                print(os.getpid(), flush=True)
    children.append(child)
otelkit.shutdown()
sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_leader_that_is_killed_is_replaced(sink: Sink, tmp_path: Path, engine: str) -> None:
    """Within an interval, without a jump: three leaders in turn, and the sum stays what the four have counted."""
    source = LEADER.format(url=sink.url, rounds=100, labels="")
    process = start_python(source, cwd=tmp_path, environ={"OTELKIT_ENGINE": engine})
    try:
        sink.wait_for(lambda: sink.total("visits") == 400, "400 visits")
        kill_leaders(3, process, sink)
        assert sink.one_series("visits")[-1] == 400
    finally:
        kill_session(process)


def kill_leaders(times: int, process: subprocess.Popen[str], sink: Sink) -> None:
    """Kills whoever says that it leads, and waits until the next one has exported."""
    assert process.stdout is not None
    killed: set[int] = set()
    while len(killed) < times:
        leader = int(process.stdout.readline())
        if leader in killed:
            continue
        os.kill(leader, signal.SIGKILL)
        killed.add(leader)
        received = len(sink.metrics)
        sink.wait_for(lambda seen=received: _counts(sink, seen) > 1, "the next leader", 10)  # type: ignore[misc]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.slow
def test_more_label_sets_than_the_limit_over_leaders_that_are_killed(sink: Sink, tmp_path: Path, engine: str) -> None:
    """Four workers with 900 label sets each: 2000 series, the same ones under each leader, whose sum is exact and none
    of which falls.
    """
    source = LEADER.format(url=sink.url, rounds=900, labels=', customer=f"{number}-{round}"')
    process = start_python(source, cwd=tmp_path, environ={"OTELKIT_ENGINE": engine})
    try:
        sink.wait_for(lambda: sink.total("visits") == 3600, "3600 visits", 30)
        before = sink.series("visits").keys()
        kill_leaders(2, process, sink)
        series = sink.series("visits")
        assert series.keys() == before
        assert len(series) == LIMIT
        assert len({instance for instance, _ in series}) == 1
        assert sum(values[-1] for values in series.values()) == 3600
        assert all(values == sorted(values) for values in series.values())
        (overflow,) = [values for (_, labels), values in series.items() if dict(labels) == OVERFLOW]
        assert overflow[-1] == 3600 - (LIMIT - 1)
    finally:
        kill_session(process)


@pytest.mark.slow
def test_series_that_have_no_place_go_their_own_way(sink: Sink, tmp_path: Path) -> None:
    """Two processes with 10 MB each: what does not fit is exported by its process, and all is counted once."""
    source = f"""
    import os, otelkit
    otelkit.bootstrap("shop", otlp_endpoint={sink.url!r}, shutdown_timeout_s=40, metric_export_interval_s=600)
    with otelkit.span("parent"): pass
    child = os.fork()
    for metric in range(20):
        for number in range(500):
            otelkit.count(f"visits.{{metric}}", customer=f"{{number:01000}}")
    with otelkit.span("work"): pass
    if child == 0:
        assert otelkit.flush(40).ok
        assert otelkit.status()["metrics_group"]["failure"] == "more series than the process's file holds"
        os._exit(0 if otelkit.shutdown().ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert otelkit.flush(40).ok
    """
    finished = run_python(source, cwd=tmp_path, deadline_s=100)
    for metric in range(20):
        series = sink.series(f"visits.{metric}")
        assert sum(values[-1] for values in series.values()) == 1000
    assert finished.err.count("more metric series than can be shared") == 2


def _counts(sink: Sink, seen: int) -> int:
    """How often the sum came after so many metrics."""
    return sum(metric.name == "visits" for metric in sink.metrics[seen:])


BROKEN: dict[str, Callable[[Path], str]] = {
    "a file in the folder's place": lambda state: (
        f"import os; os.makedirs({str(state)!r}); open({str(state / 'groups')!r}, 'w').close()"
    ),
    "no room": lambda state: "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))",
    "a folder that others may write into": lambda state: (
        f"import os; os.umask(0); os.makedirs({str(state / 'groups')!r}, 0o777)"
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_where_nothing_can_be_shared_each_process_exports_itself(sink: Sink, tmp_path: Path, broken: str) -> None:
    """Under its own identity, with one warning, and nothing lost."""
    source = f"""
    {BROKEN[broken](tmp_path / "state")}
    import os, otelkit
    otelkit.bootstrap("shop", otlp_endpoint={sink.url!r}, shutdown_timeout_s=10)
    otelkit.count("visits", 100)
    with otelkit.span("parent"): pass
    child = os.fork()
    if child == 0:
        otelkit.count("visits")
        with otelkit.span("child"): pass
        assert otelkit.flush(10).ok
        assert otelkit.status()["metrics_group"]["failure"]
        os._exit(0 if otelkit.shutdown().ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert otelkit.flush(10).ok
    """
    finished = run_python(source, cwd=tmp_path)
    assert sorted(values[-1] for values in sink.series("visits").values()) == [1, 100]
    assert finished.err.count("cannot be shared") == 2
