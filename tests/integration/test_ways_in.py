"""Each way to start: in code, `otelkit run`, OpenTelemetry's own launcher, and `otelkit auto enable`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environment import virtual_environment
from tests.support.server import BIN, FAST, clean_environment, free_port, get, running, wait_until_up
from tests.support.sink import Sink
from tests.support.slow import slow

APP = """
import logging
import otelkit
from fastapi import FastAPI
from sqlalchemy import create_engine, text

app = FastAPI()
engine = create_engine("sqlite://")

@app.get("/items/{item}")
def item(item: int):
    with engine.connect() as connection, otelkit.span("item.price"):
        connection.execute(text("SELECT 1"))
    logging.getLogger("shop").info("item %s", item)
    return item
"""
IN_CODE = f"import otelkit\notelkit.bootstrap('shop')\n{APP}"


def serve(folder: Path, source: str, prefix: list[str], **environ: str) -> None:
    """Serves the app under uvicorn, asks it three times and stops it."""
    (folder / "app.py").write_text(source)
    port, log = free_port(), folder / "log"
    command = [*prefix, "uvicorn", "app:app", "--port", str(port)]
    with running(command, cwd=folder, environ=clean_environment(**FAST, **environ), log=log) as process:
        wait_until_up(f"http://127.0.0.1:{port}/nowhere", process, log)
        for number in range(3):
            status, _, _ = get(f"http://127.0.0.1:{port}/items/{number}")
            assert status == 200, log.read_text()


def check(sink: Sink) -> None:
    """The whole request arrived: server span, business span, statement, log line, in one trace, and the count."""
    sink.wait_for(lambda: len(sink.named("GET /items/{item}")) == 3, "three server spans")
    for server in sink.named("GET /items/{item}"):
        trace = [span for span in sink.spans if span.trace_id == server.trace_id]
        assert sorted(span.name for span in trace) == ["GET /items/{item}", "SELECT", "item.price"]
        business = next(span for span in trace if span.name == "item.price")
        statement = next(span for span in trace if span.name == "SELECT")
        assert (business.parent_id, statement.parent_id) == (server.span_id, business.span_id)
        assert server.resource["service.name"] == "shop"
        lines = [log for log in sink.logs if log.scope == "shop" and log.record.trace_id.hex() == server.trace_id]
        assert [line.record.span_id.hex() for line in lines] == [server.span_id]
    sink.wait_for(
        lambda: sink.total("http.server.request.duration", http__route="/items/{item}") == 3, "three measured requests"
    )


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as found:
        yield found


def test_bootstrap_in_code(sink: Sink, tmp_path: Path) -> None:
    """A call in the application is all that it takes."""
    serve(tmp_path, IN_CODE, [], OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)
    check(sink)


def test_otelkit_run(sink: Sink, tmp_path: Path) -> None:
    """`otelkit run` starts an unchanged program with telemetry."""
    serve(tmp_path, APP, ["otelkit", "run"], OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, OTEL_SERVICE_NAME="shop")
    check(sink)


def test_otelkit_run_keeps_the_programs_own_sitecustomize(sink: Sink, tmp_path: Path) -> None:
    """The sitecustomize that ours stands before runs too."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import builtins\nbuiltins.theirs = True\n")
    done = subprocess.run(
        ["otelkit", "run", sys.executable, "-c", "import otelkit; print(theirs, otelkit.status()['state'])"],
        env=clean_environment(PYTHONPATH=str(tmp_path / "site"), OTEL_TRACES_EXPORTER="none", PATH=str(BIN)),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == ["True", "running"]


@pytest.mark.parametrize("named", [True, *slow(False)], ids=["named", "unnamed"])
def test_the_ecosystems_launcher(sink: Sink, tmp_path: Path, named: bool) -> None:
    """`opentelemetry-instrument` uses otelkit as its distro, beside opentelemetry-distro (installed here) if named."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_SERVICE_NAME": "shop"}
    if named:
        environ |= {"OTEL_PYTHON_DISTRO": "otelkit", "OTEL_PYTHON_CONFIGURATOR": "otelkit"}
        serve(tmp_path, APP, ["opentelemetry-instrument"], **environ)
        check(sink)
        return
    serve(tmp_path, APP, ["opentelemetry-instrument"], **environ)
    # Which one comes first is the directory's order: either otelkit did it all, or it says how to choose it.
    if "set OTEL_PYTHON_DISTRO=otelkit" not in (tmp_path / "log").read_text():
        check(sink)


@pytest.mark.slow
def test_auto_enable(sink: Sink, tmp_path: Path) -> None:
    """After `otelkit auto enable` unchanged commands start with telemetry where OTELKIT_AUTO is set, and only there."""
    python = str(virtual_environment(tmp_path / "venv"))
    otelkit = [python, "-c", "from otelkit.cli.main import main; main()"]
    quiet = clean_environment()
    enabled = subprocess.run([*otelkit, "auto", "enable"], env=quiet, capture_output=True, text=True, timeout=30)
    assert enabled.returncode == 0, enabled.stderr
    assert str(tmp_path) in enabled.stdout
    state = [python, "-c", "import otelkit; print(otelkit.status()['state'])"]
    try:
        unset = subprocess.run(state, env=quiet, capture_output=True, text=True, timeout=30, check=True)
        assert unset.stdout.strip() == "not started"
        serve(
            tmp_path,
            APP,
            [python, "-m"],
            OTELKIT_AUTO="1",
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
            OTEL_SERVICE_NAME="shop",
        )
        check(sink)
    finally:
        disabled = subprocess.run([*otelkit, "auto", "disable"], env=quiet, capture_output=True, text=True, timeout=30)
    assert disabled.returncode == 0, disabled.stderr
    after = subprocess.run(
        state, env=clean_environment(OTELKIT_AUTO="1"), capture_output=True, text=True, timeout=30, check=True
    )
    assert after.stdout.strip() == "not started"


def test_an_automatic_start_makes_no_thread_and_imports_no_library(tmp_path: Path) -> None:
    """Before the first record there is no thread, no socket, and nothing imported that the application has not."""
    code = (
        "import sys, threading, os\n"
        "import otelkit\n"
        "assert otelkit.status()['state'] == 'running'\n"
        "names = 'celery fastapi redis sqlalchemy grpc urllib3 rich typer ssl asyncio'\n"
        "libraries = set(names.split())\n"
        "sockets = [fd for fd in os.listdir('/proc/self/fd') if 'socket' in os.path.realpath(f'/proc/self/fd/{fd}')]\n"
        "print(len(threading.enumerate()), sorted(libraries & set(sys.modules)), sockets)\n"
    )
    done = subprocess.run(
        ["otelkit", "run", sys.executable, "-c", code],
        env=clean_environment(OTEL_SERVICE_NAME="x", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9"),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout.strip() == "1 [] []"


def test_a_start_that_fails_leaves_the_program_alone(tmp_path: Path) -> None:
    """A wrong setting under OTELKIT_STRICT is told on stderr; the program runs."""
    done = subprocess.run(
        ["otelkit", "run", sys.executable, "-c", "print('runs')"],
        env=clean_environment(OTELKIT_STRICT="1", OTEL_TRACES_SAMPLER="sometimes"),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.strip() == "runs"
    assert "OTEL_TRACES_SAMPLER='sometimes'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"), [([], 2, "which command?"), (["no-such-program"], 127, "not a program on PATH")]
)
def test_otelkit_run_without_a_program(arguments: list[str], code: int, message: str) -> None:
    """A missing or unknown command is named."""
    done = subprocess.run(
        ["otelkit", "run", *arguments], env=clean_environment(), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == code
    assert message in done.stderr
