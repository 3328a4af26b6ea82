"""Every kind of process that a service runs in: it records its own, under its own identity, and loses nothing at its
end.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import uvicorn

from otelkit.delivery.ledger import pages
from tests.support.process import run_python
from tests.support.server import (
    AT_THE_END,
    FAST,
    PATIENT,
    clean_environment,
    free_port,
    get,
    running,
    wait_until_said,
    wait_until_up,
)
from tests.support.sink import Answer, Sink
from tests.support.slow import slow

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
GUNICORN = ["gunicorn", "app:app", "-k", "uvicorn_worker.UvicornWorker", "-w", "2", "-b", "127.0.0.1:{port}"]


@pytest.mark.parametrize(
    "command",
    [
        ["uvicorn", "app:app", "--port", "{port}"],
        ["uvicorn", "app:app", "--port", "{port}", "--workers", "2"],
        GUNICORN,
        *slow(
            [*GUNICORN, "--preload"],
            ["hypercorn", "app:app", "-b", "127.0.0.1:{port}"],
            ["hypercorn", "app:app", "-w", "2", "-b", "127.0.0.1:{port}"],
        ),
    ],
    ids=["uvicorn", "uvicorn-workers", "gunicorn", "gunicorn-preload", "hypercorn", "hypercorn-workers"],
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
        wait_until_said(log, "Running on" if words[0] == "hypercorn" else "startup complete", workers)
        for _ in range(20):
            assert get(f"http://127.0.0.1:{port}/")[0] == 200
    sink.wait_for(lambda: len(sink.named("GET /")) == 20, f"20 spans\n{log.read_text()}")
    assert len({span.span_id for span in sink.named("GET /")}) == 20
    assert {(span.span.kind, span.parent_id, span.span.status.code) for span in sink.named("GET /")} == {(2, "", 0)}
    assert {span.attributes["http.route"] for span in sink.named("GET /")} == {"/"}
    sink.wait_for(lambda: sink.total("visits") == 20, "20 visits")
    labels = {"http__request__method": "GET", "http__route": "/", "http__response__status_code": 200}
    sink.wait_for(lambda: sink.total("http.server.request.duration", **labels) == 20, "20 measured requests")
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
