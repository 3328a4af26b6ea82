"""Every kind of process that a service runs in: it records its own, under its own identity, and loses nothing at its
end.
"""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
import uvicorn

from otelkit.delivery.ledger import pages
from tests.support.process import kill_session, run_python, start_python
from tests.support.server import FAST, clean_environment, free_port, get, running, wait_until_up
from tests.support.sink import Answer, Sink

APP = """
import otelkit
otelkit.bootstrap("shop")
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
def index():
    otelkit.count("visits")
    return "x"
"""

# It imports the application when it has taken SIGTERM already, as --workers does to this day.
OLD_UVICORN = tuple(map(int, uvicorn.__version__.split(".")[:2])) < (0, 47)
# The machines that run this are shared and slow at times; that an end keeps its deadline is a test of its own.
PATIENT = {"OTELKIT_SHUTDOWN_TIMEOUT_S": "10"}
# Long delays: what arrives was sent at the process's end.
AT_THE_END = {
    **PATIENT,
    "OTEL_BSP_SCHEDULE_DELAY": "60000",
    "OTEL_BLRP_SCHEDULE_DELAY": "60000",
    "OTEL_METRIC_EXPORT_INTERVAL": "60000",
}


@pytest.mark.parametrize(
    "command",
    [
        ["uvicorn", "app:app", "--port", "{port}"],
        ["uvicorn", "app:app", "--port", "{port}", "--workers", "2"],
        ["gunicorn", "app:app", "-k", "uvicorn_worker.UvicornWorker", "-w", "2", "-b", "127.0.0.1:{port}"],
        ["gunicorn", "app:app", "-k", "uvicorn_worker.UvicornWorker", "-w", "2", "-b", "127.0.0.1:{port}", "--preload"],
    ],
    ids=["uvicorn", "uvicorn-workers", "gunicorn", "gunicorn-preload"],
)
def test_servers_with_workers(sink: Sink, tmp_path: Path, command: list[str]) -> None:
    """Each request is one span of its worker, and the workers' counts add up, after SIGTERM alone."""
    (tmp_path / "app.py").write_text(APP)
    port, log = free_port(), tmp_path / "log"
    environ = clean_environment(
        **AT_THE_END, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, OTELKIT_STATE_DIR=str(tmp_path / "state")
    )
    words = [word.format(port=port) for word in command]
    with running(words, cwd=tmp_path, environ=environ, log=log) as process:
        wait_until_up(f"http://127.0.0.1:{port}/nowhere", process, log)
        # gunicorn does not end a worker that it is starting when the signal comes.
        workers = 2 if {"-w", "--workers"} & set(words) else 1
        sink.wait_for(lambda: log.read_text().count("startup complete") == workers, "every worker")
        for _ in range(20):
            assert get(f"http://127.0.0.1:{port}/")[0] == 200
    sink.wait_for(lambda: len(sink.named("GET /")) == 20, f"20 spans\n{log.read_text()}")
    assert len({span.span_id for span in sink.named("GET /")}) == 20
    sink.wait_for(lambda: sink.total("visits") == 20, "20 visits")
    identities = {span.resource["service.instance.id"] for span in sink.named("GET /")}
    assert len(identities) == len({span.resource["process.pid"] for span in sink.named("GET /")})
    left = [page for _, page in pages(tmp_path / "state")]
    if "--workers" in words or "--preload" in words or (words[0] == "uvicorn" and OLD_UVICORN):
        # Killed by the signal that uvicorn raises again: its last log lines are lost, and the ledger says so. So may be
        # sums that it was about to export for all, which the next leader has exported.
        assert all(page.accounts["logs"].outstanding <= 3 for page in left)
        assert all(page.accounts["traces"].outstanding == 0 for page in left)
    else:
        assert left == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -15), (signal.SIGINT, 1)])
def test_a_script_that_is_stopped(sink: Sink, tmp_path: Path, number: int, code: int) -> None:
    """1000 queued spans arrive although nobody handles the signal (faults 14 and 15)."""
    script = f"""
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        import otelkit, time
        otelkit.bootstrap("script", otlp_endpoint={sink.url!r}, bsp_schedule_delay_s=60)
        for number in range(1000):
            with otelkit.span("work"):
                pass
        print("ready", flush=True)
        while True:
            time.sleep(0.05)  # not once: a signal between the interpreter's look and the call is seen after it
    """
    process = start_python(script, cwd=tmp_path, environ=PATIENT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=15)
    finally:
        kill_session(process)
    assert process.returncode in (code, -number), errors
    assert len({span.span_id for span in sink.named("work")}) == 1000


def test_sigterm_in_the_middle_of_a_log_call_keeps_the_deadline(sink: Sink, tmp_path: Path) -> None:
    """The interrupted main thread holds the lock that otelkit's own last line needs: the process waits no longer than
    the setting says, and ends by the signal.
    """
    sink.answer = lambda path: Answer(after_s=60)
    script = f"""
        import logging, time, otelkit
        logging.basicConfig()
        otelkit.bootstrap("script", otlp_endpoint={sink.url!r}, shutdown_timeout_s=0.5)
        with otelkit.span("work"):
            pass
        with logging.getLogger().handlers[0].lock:
            print("ready", flush=True)
            while True:
                time.sleep(0.05)
    """
    process = start_python(script, cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM
        assert time.monotonic() - began < 3.0
    finally:
        kill_session(process)


def test_a_handler_of_the_applications_own_stays(sink: Sink, tmp_path: Path) -> None:
    """A SIGTERM handler that is there before bootstrap is called, and nobody else's."""
    script = f"""
        import signal, sys, os
        def handler(number, frame):
            print("mine", flush=True)
            sys.exit(3)
        signal.signal(signal.SIGTERM, handler)
        import otelkit
        otelkit.bootstrap("script", otlp_endpoint={sink.url!r}, bsp_schedule_delay_s=60)
        with otelkit.span("work"):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
    """
    finished = run_python(script, cwd=tmp_path, environ=PATIENT, check=False)
    assert (finished.code, finished.out) == (3, "mine\n")
    assert len(sink.named("work")) == 1


def test_a_forked_child_sends_its_own_and_nothing_of_its_parents(sink: Sink, tmp_path: Path) -> None:
    """Nine spans and 100 counts are the parent's, one of each the child's (faults 1 and 4)."""
    script = f"""
        import os, otelkit
        otelkit.bootstrap("forks", otlp_endpoint={sink.url!r}, bsp_schedule_delay_s=60)
        otelkit.count("made", 100)
        for number in range(9):
            with otelkit.span("parents"):
                pass
        child = os.fork()
        if child == 0:
            with otelkit.span("childs"):
                otelkit.count("made", 1)
            assert otelkit.flush().ok
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    run_python(script, cwd=tmp_path, environ=PATIENT)
    assert len(sink.named("parents")) == 9
    (child,) = sink.named("childs")
    parent = sink.named("parents")[0]
    assert child.resource["service.instance.id"] != parent.resource["service.instance.id"]
    assert child.resource["process.pid"] != parent.resource["process.pid"]
    assert sink.total("made") == 101


def test_an_explicit_instance_id_gets_the_childs_pid(sink: Sink, tmp_path: Path) -> None:
    """Two processes never share an identity."""
    script = f"""
        import os, otelkit
        otelkit.bootstrap("forks", otlp_endpoint={sink.url!r}, resource_attributes={{"service.instance.id": "one"}})
        with otelkit.span("parents"):
            pass
        child = os.fork()
        if child == 0:
            with otelkit.span("childs"):
                pass
            otelkit.flush()
            os._exit(0)
        os.waitpid(child, 0)
        print(child)
    """
    pid = run_python(script, cwd=tmp_path, environ=PATIENT).out.strip()
    assert sink.named("parents")[0].resource["service.instance.id"] == "one"
    assert sink.named("childs")[0].resource["service.instance.id"] == f"one-{pid}"


def test_forks_under_emitting_threads_hang_nobody(sink: Sink, tmp_path: Path) -> None:
    """100 children, forked while three threads emit, send their span and end (fault 2)."""
    script = f"""
        import os, threading, otelkit
        otelkit.bootstrap("forks", otlp_endpoint={sink.url!r})
        stop = threading.Event()
        def emit():
            while not stop.wait(0.0005):
                with otelkit.span("threads"):
                    otelkit.count("made")
        threads = [threading.Thread(target=emit) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(100):
            child = os.fork()
            if child == 0:
                with otelkit.span("childs"):
                    pass
                os._exit(0 if otelkit.flush(10).ok else 1)
            assert os.waitpid(child, 0)[1] == 0, number
        stop.set()
        for thread in threads:
            thread.join()
    """
    run_python(script, cwd=tmp_path, deadline_s=90)
    assert len({span.span_id for span in sink.named("childs")}) == 100


def test_forks_under_threads_that_observe_hang_nobody(sink: Sink, tmp_path: Path) -> None:
    """Whoever held the lock of the observed functions at the fork is not in the child, which observes all the same."""
    script = f"""
        import os, signal, threading, otelkit
        otelkit.bootstrap("forks", otlp_endpoint={sink.url!r})
        stop = threading.Event()
        def observe():
            while not stop.is_set():
                for _ in range(200):
                    otelkit.observe("depth", lambda: 1).close()
        threads = [threading.Thread(target=observe) for _ in range(3)]
        for thread in threads:
            thread.start()
        ended = []
        for number in range(40):
            child = os.fork()
            if child == 0:
                signal.alarm(5)  # ends a child that hangs
                with otelkit.observe("depth", lambda: 2):
                    pass
                os._exit(0)
            ended.append(os.waitpid(child, 0)[1])
            if ended[-1]:
                break
        stop.set()
        for thread in threads:
            thread.join()
        print(set(ended))
    """
    assert run_python(script, cwd=tmp_path, deadline_s=120).out == "{0}\n"


def test_a_fork_waits_for_a_line_that_otelkit_is_printing(tmp_path: Path) -> None:
    """A child that is forked within a write to stderr would wait for ever at its own first line."""
    script = """
        import logging, os, threading, time, otelkit
        printing = threading.Event()
        printed = False
        class Slow(logging.StreamHandler):
            def emit(self, record):
                global printed
                if threading.current_thread().name.startswith("otelkit-"):
                    printing.set()
                    time.sleep(0.5)
                    printed = True
        logging.getLogger().addHandler(Slow())
        otelkit.bootstrap("forks", otlp_endpoint="http://127.0.0.1:9", shutdown_timeout_s=0)
        with otelkit.span("work"):
            pass
        otelkit.flush(0.0)
        assert printing.wait(10)
        child = os.fork()
        if child == 0:
            os._exit(0 if printed else 1)
        print(os.waitpid(child, 0)[1])
    """
    assert run_python(script, cwd=tmp_path).out == "0\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing(sink: Sink, tmp_path: Path, method: str) -> None:
    """Forked children send at their end; spawned ones start anew with the program's own bootstrap."""
    (tmp_path / "program.py").write_text(
        f"""
import multiprocessing
import otelkit
otelkit.bootstrap("pool", otlp_endpoint={sink.url!r}, bsp_schedule_delay_s=60)

def work(number):
    with otelkit.span("work"):
        otelkit.count("made")

if __name__ == "__main__":
    with otelkit.span("main"):
        pass
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=work, args=(number,)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
"""
    )
    subprocess.run(
        ["python", "program.py"],
        cwd=tmp_path,
        env=clean_environment(OTELKIT_STATE_DIR=str(tmp_path / "state"), **PATIENT),
        check=True,
        timeout=60,
    )
    assert len(sink.named("work")) == 4
    assert len(sink.named("main")) == 1
    assert sink.total("made") == 4


def test_an_exit_with_a_collector_that_hangs_keeps_its_deadline(sink: Sink, tmp_path: Path) -> None:
    """Three signals, a receiver that never answers, no spool: the process ends within its budget and says what it lost
    (with the spool: tests/faults/test_f17_*).
    """
    sink.answer = lambda path: Answer(after_s=60)
    script = f"""
        import logging, time, otelkit
        logging.basicConfig()
        otelkit.bootstrap("hung", otlp_endpoint={sink.url!r}, runtime_metrics=False)
        for number in range(100):
            with otelkit.span("work"):
                otelkit.count("made")
        started = time.monotonic()
        report = otelkit.shutdown()
        print(time.monotonic() - started < 2.3, report.ok, report.dropped["shutdown"] >= 100, report.in_memory)
    """
    finished = run_python(script, cwd=tmp_path, environ={**FAST, "OTELKIT_SPOOL": "off"})
    assert finished.out.split() == ["True", "False", "True", "0"]
    assert "could not be delivered before the end of the process" in finished.err
