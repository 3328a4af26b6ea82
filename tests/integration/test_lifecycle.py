"""The rows of docs/lifecycle.md that no fault row proves: each kind of process ends as it does in use, and what it
recorded arrives. All delays are a minute long, so what arrives was sent at the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import celery
import pytest

from examples.shop.redis_server import redis_server
from otelkit.delivery.ledger import pages
from tests.faults.spooled import next_start, nobody, run_service
from tests.support.process import Finished, run_python
from tests.support.server import (
    AT_THE_END,
    BIN,
    FAST,
    clean_environment,
    free_port,
    get,
    running,
    wait_until_said,
    wait_until_up,
)
from tests.support.sink import Sink
from tests.support.slow import slow

ERROR = 2  # STATUS_CODE_ERROR


def run(source: str, sink: Sink, place: Path, *, check: bool = True) -> Finished:
    """Runs a script with telemetry on that sends nothing before its end."""
    beginning = 'import asyncio, os, sys, threading, time, otelkit\notelkit.bootstrap("script")\n'
    environ = {**AT_THE_END, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    return run_python(beginning + source, cwd=place, environ=environ, check=check)


def names(sink: Sink) -> list[str]:
    return sorted(span.name for span in sink.spans)


def events(sink: Sink) -> list[str]:
    """What the programs here said themselves."""
    return [log.record.event_name for log in sink.logs if log.record.event_name in ("said", "late")]


# -- scripts


def test_an_exception_at_top_level(sink: Sink, tmp_path: Path) -> None:
    """The exit code and the traceback are Python's, and the span that it went through says what it was."""
    source = """
with otelkit.span("before"): otelkit.count("made")
with otelkit.span("broken"):
    raise ValueError("no stock")
"""
    finished = run(source, sink, tmp_path, check=False)
    assert finished.code == 1
    assert "ValueError: no stock" in finished.err
    assert names(sink) == ["before", "broken"]
    assert sink.named("broken")[0].span.status.code == ERROR
    # The span's with the stack trace, and that nobody handled it.
    told, unhandled = (log.attributes for log in sink.logs if log.scope == "otelkit.exceptions")
    assert told["exception.type"] == unhandled["exception.type"] == "ValueError"
    assert told["otelkit.error.fingerprint"] == unhandled["otelkit.error.fingerprint"]
    assert "no stock" in told["exception.stacktrace"]
    assert "exception.stacktrace" not in unhandled
    assert unhandled["otelkit.error.handled"] is False
    assert sink.total("made") == 1


def test_sys_exit_in_a_thread(sink: Sink, tmp_path: Path) -> None:
    """It ends the thread alone: the main thread goes on, and the process ends with its code."""
    source = """
def leaves():
    with otelkit.span("left"):
        sys.exit(3)
thread = threading.Thread(target=leaves)
thread.start()
thread.join()
with otelkit.span("went on"): otelkit.event("said")
sys.exit(4)
"""
    assert run(source, sink, tmp_path, check=False).code == 4
    assert names(sink) == ["left", "went on"]
    assert events(sink) == ["said"]


def test_a_thread_that_outlasts_the_main_one(sink: Sink, tmp_path: Path) -> None:
    """The interpreter waits for it before atexit: what it records after the main thread's sys.exit arrives."""
    source = """
def goes_on():
    threading.main_thread().join()
    with otelkit.span("last"): otelkit.event("late")
threading.Thread(target=goes_on).start()
with otelkit.span("first"): otelkit.event("said")
sys.exit(4)
"""
    assert run(source, sink, tmp_path, check=False).code == 4
    assert names(sink) == ["first", "last"]
    assert events(sink) == ["said", "late"]


def test_asyncio_run_cancels_what_is_left(sink: Sink, tmp_path: Path) -> None:
    """Spans of the loop, of a task that is cancelled at the end and of a generator that is closed then; and what is
    recorded when the loop is closed.
    """
    source = """
async def generates():
    with otelkit.span("generated"):
        yield 1
        yield 2
async def waits(started):
    with otelkit.span("cancelled"):
        started.set()
        await asyncio.sleep(60)
async def main():
    started = asyncio.Event()
    global task, generator
    task, generator = asyncio.create_task(waits(started)), generates()
    with otelkit.span("inside"):
        assert await generator.__anext__() == 1
        await started.wait()
asyncio.run(main())
assert task.cancelled()
otelkit.event("late")
"""
    finished = run(source, sink, tmp_path)
    assert "Traceback" not in finished.err
    assert names(sink) == ["cancelled", "generated", "inside"]
    assert events(sink) == ["late"]


def test_a_loop_that_is_closed_over_its_tasks(sink: Sink, tmp_path: Path) -> None:
    """Nobody cancels them: a span that such a task stands in is ended with the process."""
    source = """
async def waits(started):
    with otelkit.span("pending"):
        started.set()
        await asyncio.sleep(60)
async def main():
    started = asyncio.Event()
    global task
    task = asyncio.ensure_future(waits(started))
    with otelkit.span("inside"):
        await started.wait()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
assert not task.done()
otelkit.event("late")
"""
    run(source, sink, tmp_path)
    assert names(sink) == ["inside", "pending"]
    assert events(sink) == ["late"]


FORKS = """
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("before", ["", *slow(FORKS)], ids=["process", "forked child"])
def test_os_exit_stays_pythons(sink: Sink, tmp_path: Path, before: str) -> None:
    """It ends the process, and nothing more: what was in memory is lost, and another process tells how much, once."""
    source = f"""
assert os._exit is __import__("posix")._exit
{before}
with otelkit.span("flushed"): pass
otelkit.flush(PATIENCE_S)
for number in range(7):
    with otelkit.span("lost"): pass
os._exit(7)
"""
    finished = run_service(source, sink.port, tmp_path, check=False, environ=AT_THE_END)
    assert finished.code == 7, finished.err
    _, said = next_start(sink, tmp_path)
    assert (finished.err + said).count("ended with 7 records undelivered") == 1
    assert names(sink) == ["flushed", "next"]


@pytest.mark.parametrize("before", ["", *slow(FORKS)], ids=["process", "forked child"])
def test_os_exit_leaves_what_was_written_ahead(tmp_path: Path, before: str) -> None:
    """With OTELKIT_SPOOL=always, long before it would have been sent: the next start sends it."""
    source = f"""
{before}
for number in range(100):
    with otelkit.span("written"): pass
deadline = time.monotonic() + PATIENCE_S
while otelkit.status()["ledger"]["traces"]["spooled"] < 100:
    assert time.monotonic() < deadline, otelkit.status()
    time.sleep(0.1)  # the threads import at their start: who asks all the time keeps the interpreter from them
os._exit(7)
"""
    environ = {**AT_THE_END, "OTELKIT_SPOOL": "always"}
    with nobody() as port:
        finished = run_service(source, port, tmp_path, check=False, environ=environ)
        assert finished.code == 7, finished.err
    with Sink(port=port) as sink:
        _, said = next_start(sink, tmp_path)
        assert len({span.span_id for span in sink.named("written")}) == len(sink.named("written")) == 100
    assert "undelivered" not in said


# -- servers

ASGI = """
import os, signal, time
import otelkit
otelkit.bootstrap("shop")
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def index(request):
    with otelkit.span("work"): otelkit.count("visits")
    return PlainTextResponse(str(os.getpid()))

async def stuck(request):
    hang()

app = Starlette(routes=[Route("/", index), Route("/stuck", stuck)])
"""
# Without an ASGI server's own words about its start.
WSGI = """
import os, signal, sys, time
import otelkit
otelkit.bootstrap("shop")

def app(environ, start_response):
    if environ["PATH_INFO"] == "/stuck": hang()
    with otelkit.span("work"): otelkit.count("visits")
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

print("Application startup complete", file=sys.stderr, flush=True)
"""
# Until the spool has all, and then for ever.
HANG = """
def hang():
    for number in range(20):
        with otelkit.span("written"): pass
    deadline = time.monotonic() + 10
    while otelkit.status()["ledger"]["traces"]["spooled"] < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    {before}
    print(os.getpid(), "hangs", flush=True)
    while True:
        time.sleep(60)
"""


def pid_behind(port: int) -> int:
    """The process that answers a request."""
    status, _, body = get(f"http://127.0.0.1:{port}/")
    assert status == 200
    return int(body)


def settings(sink: Sink, place: Path, **more: str) -> dict[str, str]:
    return clean_environment(
        **AT_THE_END, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, OTELKIT_STATE_DIR=str(place / "state"), **more
    )


def of_pids(sink: Sink, name: str) -> set[int]:
    return {int(span.resource["process.pid"]) for span in sink.named(name)}


WORKERS = {"uvicorn": (ASGI, ["-k", "uvicorn_worker.UvicornWorker"]), "sync": (WSGI, ["-k", "sync"])}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WORKERS)
def test_gunicorns_graceful_reload(sink: Sink, tmp_path: Path, kind: str) -> None:
    """SIGHUP: the old workers send what they have while the master and the new ones live on."""
    app, worker_class = WORKERS[kind]
    (tmp_path / "app.py").write_text(app)
    port, log = free_port(), tmp_path / "log"
    command = ["gunicorn", "app:app", *worker_class, "-w", "2", "-b", f"127.0.0.1:{port}"]
    with running(command, cwd=tmp_path, environ=settings(sink, tmp_path), log=log) as master:
        wait_until_said(log, "startup complete", 2)
        old = {pid_behind(port) for _ in range(20)}
        assert sink.spans == []
        master.send_signal(signal.SIGHUP)
        sink.wait_for(lambda: len(sink.named("work")) >= 20, f"20 spans of the old workers\n{log.read_text()}")
        assert of_pids(sink, "work") == old
        wait_until_said(log, "startup complete", 4)
        new = pid_behind(port)
        assert new not in old
        assert master.poll() is None
    sink.wait_for(lambda: len(sink.named("work")) >= 21, "the new worker's span")
    assert of_pids(sink, "work") == {*old, new}
    assert len({span.span_id for span in sink.named("work")}) == len(sink.named("work")) == 21
    sink.wait_for(lambda: sink.total("visits") == 21, "21 visits")
    assert list(pages(tmp_path / "state")) == []  # each has closed its ledger, after its very last line


def test_uvicorn_reloads(sink: Sink, tmp_path: Path) -> None:
    """A file changes: the old process sends what it has, and so does the new one when the server is stopped."""
    file = tmp_path / "app.py"
    file.write_text(ASGI)
    port, log = free_port(), tmp_path / "log"
    command = ["uvicorn", "app:app", "--reload", "--port", str(port)]
    with running(command, cwd=tmp_path, environ=settings(sink, tmp_path), log=log) as server:
        wait_until_up(f"http://127.0.0.1:{port}/nowhere", server, log)
        old = {pid_behind(port) for _ in range(5)}
        assert server.pid not in old
        assert sink.spans == []
        file.write_text(ASGI + "# changed\n")
        sink.wait_for(lambda: len(sink.named("work")) >= 5, f"5 spans of the old process\n{log.read_text()}")
        assert of_pids(sink, "work") == old
        new = pid_behind(port)
        assert new not in old
        assert server.poll() is None
    sink.wait_for(lambda: len(sink.named("work")) >= 6, "the new process's span")
    assert of_pids(sink, "work") == {*old, new}
    assert len({span.span_id for span in sink.named("work")}) == len(sink.named("work")) == 6
    sink.wait_for(lambda: sink.total("visits") == 6, "6 visits")


def wait_until_gone(pid: int, deadline_s: float = 20.0) -> None:
    """Waits until a process has ended, and its parent knows."""
    end = time.monotonic() + deadline_s
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            assert time.monotonic() < end, f"{pid} still runs"
            time.sleep(0.02)


IGNORED = "signal.signal(signal.SIGABRT, signal.SIG_IGN)"


@pytest.mark.parametrize(
    ("kind", "before"),
    [("uvicorn", "pass"), ("sync", "pass"), ("uvicorn", IGNORED)],
    ids=["uvicorn", "sync", "SIGKILL"],
)
@pytest.mark.slow
def test_a_gunicorn_worker_that_hangs(tmp_path: Path, kind: str, before: str) -> None:
    """The arbiter ends it by SIGABRT, and by SIGKILL where that does nothing: what it had written ahead, another
    process of the service sends.
    """
    app, worker_class = WORKERS[kind]
    (tmp_path / "app.py").write_text(app + HANG.format(before=before))
    log = tmp_path / "log"
    with nobody() as collector:
        environ = clean_environment(
            **FAST,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector}",
            OTELKIT_STATE_DIR=str(tmp_path / "state"),
            OTELKIT_SPOOL="always",
        )
        port = free_port()
        # Loaded before the fork: a worker that is still importing after a second would be ended as well.
        command = ["gunicorn", "app:app", *worker_class, "-w", "1", "-t", "1", "--preload", "-b", f"127.0.0.1:{port}"]
        with running(command, cwd=tmp_path, environ=environ, log=log) as master:
            wait_until_up(f"http://127.0.0.1:{port}/", master, log)
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /stuck HTTP/1.1\r\nHost: shop\r\n\r\n")
                wait_until_said(log, " hangs\n")
                wait_until_gone(int(re.findall(r"^(\d+) hangs$", log.read_text(), re.MULTILINE)[0]))
            with Sink(port=collector) as sink:
                pid_behind(port)
                sink.wait_for(lambda: len(sink.named("written")) >= 20, log.read_text(), deadline_s=30)
                assert len({span.span_id for span in sink.named("written")}) == len(sink.named("written")) == 20


# -- Celery

TASKS = """
import os
import celery
import otelkit
otelkit.bootstrap("worker")
app = celery.Celery("tasks", broker=os.environ["TEST_BROKER"])
app.conf.update(broker_connection_retry_on_startup=True)

@app.task(name="work")
def work(number):
    with otelkit.span("inside", n=number):
        pass
    with open("executed", "ab", buffering=0) as file:
        file.write(b".")
"""


@pytest.mark.slow
def test_celerys_main_process(sink: Sink, tmp_path: Path) -> None:
    """SIGTERM, a warm shutdown: its own log lines, and its pool children's spans. What such a child could not send in
    its 200 ms, on a machine as busy as one that tests, waits in the spool.
    """
    (tmp_path / "tasks.py").write_text(TASKS)
    log, executed = tmp_path / "log", tmp_path / "executed"
    with redis_server() as broker, celery.Celery("producer", broker=broker) as producer:
        environ = settings(sink, tmp_path, TEST_BROKER=broker)
        command = ["celery", "-A", "tasks", "worker", "-c", "2", "-l", "INFO"]
        with running(command, cwd=tmp_path, environ=environ, log=log) as worker:
            for number in range(10):
                producer.send_task("work", (number,))
            deadline = time.monotonic() + 60
            while not executed.exists() or executed.stat().st_size < 10:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            assert sink.asked == []
        assert worker.returncode == 0
        recover = {**environ, "OTEL_SERVICE_NAME": "worker"}
        subprocess.run([BIN / "otelkit", "recover"], env=recover, check=True, timeout=60)
    inside = sink.named("inside")
    assert sorted(span.attributes["n"] for span in inside) == list(range(10))
    assert {span.parent_id for span in inside} == {span.span_id for span in sink.named("process work")}
    assert worker.pid not in of_pids(sink, "inside")
    lines = [str(log.body) for log in sink.logs if log.resource["process.pid"] == worker.pid]
    assert sum(line.startswith("Task work[") and line.endswith("received") for line in lines) == 10
    assert any(line.endswith(" ready.") for line in lines)
