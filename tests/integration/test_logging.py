"""Logs of real servers: what they print stays as it is, and all of it is exported with its trace."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.server import FAST, clean_environment, free_port, get, running, wait_until_up
from tests.support.sink import Sink
from tests.support.slow import slow

ROOT = Path(__file__).resolve().parents[2]
APP = """
import logging
import os
if os.environ.get("TEST_TELEMETRY") == "1":
    import otelkit
    otelkit.bootstrap("logs")
from fastapi import FastAPI, WebSocket

app = FastAPI()
logger = logging.getLogger("shop")

@app.websocket("/ws")
async def talk(socket: WebSocket):
    await socket.accept()
    await socket.close()

@app.get("/")
def index():
    logger.info("an info line", extra={"plan": "pro"})
    logger.warning("a warning line")
    return "x"
"""
LOG_CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"own": {"format": "OWN %(levelname)s %(name)s %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own", "stream": "ext://sys.stderr"}},
    "loggers": {"uvicorn": {"handlers": ["own"], "level": "INFO", "propagate": False}},
    "root": {"handlers": ["own"], "level": "WARNING"},
}


def printed(folder: Path, *options: str, telemetry: bool, **environ: str) -> list[str]:
    """What uvicorn prints for two requests, its numbers (ports, pids, times) and otelkit's own lines left out."""
    (folder / "app.py").write_text(APP)
    port, log = free_port(), folder / f"log-{telemetry}"
    env = clean_environment(**FAST, TEST_TELEMETRY=str(int(telemetry)), OTELKIT_STATE_DIR=str(folder / "s"), **environ)
    command = ["uvicorn", "app:app", "--port", str(port), *options]
    with running(command, cwd=folder, environ=env, log=log) as process:
        wait_until_up(f"http://127.0.0.1:{port}/nowhere", process, log)
        for _ in range(2):
            get(f"http://127.0.0.1:{port}/")
    return [re.sub(r"\d+", "N", line) for line in log.read_text().splitlines() if "otelkit" not in line]


@pytest.mark.parametrize("options", [[], *slow(["--log-config", "log.json"])], ids=["plain", "log-config"])
def test_what_uvicorn_prints_stays_and_is_exported(sink: Sink, tmp_path: Path, options: list[str]) -> None:
    """The same lines with and without telemetry; the export has uvicorn's lines and the application's INFO too."""
    (tmp_path / "log.json").write_text(json.dumps(LOG_CONFIG))
    without = printed(tmp_path, *options, telemetry=False)
    with_telemetry = printed(tmp_path, *options, telemetry=True, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)
    assert with_telemetry == without
    assert any("a warning line" in line for line in without)
    assert not any("an info line" in line for line in without)
    server = {span.trace_id: span.span_id for span in sink.named("GET /")}
    assert len(server) == 2
    lines = [log for log in sink.logs if log.scope == "shop"]
    assert sorted(line.body for line in lines) == ["a warning line"] * 2 + ["an info line"] * 2
    for line in lines:
        assert server[line.record.trace_id.hex()] == line.record.span_id.hex()
    assert {line.attributes.get("plan") for line in lines} == {"pro", None}
    access = [log for log in sink.logs if log.scope == "uvicorn.access" and "GET / " in str(log.body)]
    assert {log.record.trace_id.hex() for log in access} == set(server)
    assert any(log.scope == "uvicorn.error" for log in sink.logs)


@pytest.mark.slow
def test_query_values_are_printed_by_uvicorn_and_never_exported(sink: Sink, tmp_path: Path) -> None:
    """In the access line and in that of a WebSocket; JSON lines, which otelkit formats, have none either."""
    (tmp_path / "app.py").write_text(APP)
    for log_format in ("unchanged", "json"):
        port, log = free_port(), tmp_path / log_format
        environ = clean_environment(
            **FAST,
            TEST_TELEMETRY="1",
            OTELKIT_STATE_DIR=str(tmp_path / "s"),
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
            OTELKIT_LOG_FORMAT=log_format,
        )
        with running(["uvicorn", "app:app", "--port", str(port)], cwd=tmp_path, environ=environ, log=log) as process:
            wait_until_up(f"http://127.0.0.1:{port}/nowhere", process, log)
            get(f"http://127.0.0.1:{port}/?token=s3cret&page=2")
            with connect(f"ws://127.0.0.1:{port}/ws?token=s3cret"):
                pass
    printed = (tmp_path / "unchanged").read_text()
    assert '"GET /?token=s3cret&page=2 HTTP/1.1" 200' in printed
    assert '"WebSocket /ws?token=s3cret" [accepted]' in printed
    assert "s3cret" not in (tmp_path / "json").read_text()
    assert "GET /?token=REDACTED&page=REDACTED HTTP/1.1" in (tmp_path / "json").read_text()
    bodies = [str(log.body) for log in sink.logs]
    assert sum('"GET /?token=REDACTED&page=REDACTED HTTP/1.1" 200' in body for body in bodies) == 2
    assert sum('"WebSocket /ws?token=REDACTED" [accepted]' in body for body in bodies) == 2
    assert not any("s3cret" in str(log.record) for log in sink.logs)


def test_the_access_line_of_gunicorn_is_exported_without_query_values(sink: Sink, tmp_path: Path) -> None:
    """Its own, of a WSGI application, whose referrer has a query as well."""
    (tmp_path / "wsgi.py").write_text(
        "import otelkit\notelkit.bootstrap('wsgi')\n"
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n"
    )
    port, log = free_port(), tmp_path / "log"
    environ = clean_environment(**FAST, OTELKIT_STATE_DIR=str(tmp_path / "s"), OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)
    command = ["gunicorn", "wsgi:app", "-b", f"127.0.0.1:{port}", "--access-logfile", "-"]
    with running(command, cwd=tmp_path, environ=environ, log=log) as process:
        wait_until_up(f"http://127.0.0.1:{port}/up", process, log)
        get(f"http://127.0.0.1:{port}/x?token=s3cret", {"Referer": "http://shop/y?code=s3cret"})
    assert "GET /x?token=s3cret HTTP/1.1" in log.read_text()
    sink.wait_for(lambda: any("GET /x?" in str(record.body) for record in sink.logs), "the access line")
    (line,) = [str(record.body) for record in sink.logs if "GET /x?" in str(record.body)]
    assert '"GET /x?token=REDACTED HTTP/1.1" 200' in line
    assert '"http://shop/y?code=REDACTED"' in line
    assert not any("s3cret" in str(record.record) for record in sink.logs)


def test_json_lines(sink: Sink, tmp_path: Path) -> None:
    """OTELKIT_LOG_FORMAT=json: each line one object, uvicorn's too, with the ids of the request."""
    lines = printed(
        tmp_path,
        telemetry=True,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
        OTELKIT_LOG_FORMAT="json",
        OTELKIT_LOG_FIELDS="level=severity",
    )
    log = (tmp_path / "log-True").read_text()
    found = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert len(found) >= len(lines) - 2  # what was printed before the application was imported is as it was
    warnings = [row for row in found if row["message"] == "a warning line"]
    assert len(warnings) == 2
    server = {span.trace_id: span for span in sink.named("GET /")}
    for row in warnings:
        assert row["severity"] == "WARNING"
        assert row["logger"] == "shop"
        assert row["span_id"] == server[row["trace_id"]].span_id
        assert row["request_id"] == server[row["trace_id"]].attributes["request.id"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["timestamp"])
        assert (row["function"], row["module"]) == ("index", "app")
    assert any(row["logger"] == "uvicorn.access" for row in found)


@pytest.mark.slow
def test_a_celery_worker_prints_what_it_prints_without(sink: Sink, tmp_path: Path, redis_url: str) -> None:
    """Celery takes the root logger over; its lines stay, and all of them are exported."""

    def worker(bootstrap: str) -> list[str]:
        log = tmp_path / f"worker-{bootstrap}.log"
        environ = clean_environment(
            **FAST,
            TEST_BROKER=redis_url,
            TEST_QUEUE=f"logging-{bootstrap}",
            TEST_BOOTSTRAP=bootstrap,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
            OTELKIT_SHUTDOWN_TIMEOUT_S="10",  # a slow machine must not make it tell of losses
            OTELKIT_STATE_DIR=str(tmp_path / "state"),
        )
        queue = f"logging-{bootstrap}"
        command = [
            "celery",
            "-A",
            "tests.integration.celery_app",
            "worker",
            "-Q",
            queue,
            "-l",
            "INFO",
            "-c",
            "1",
            "-n",
            "w",
        ]
        with running(command, cwd=ROOT, environ=environ, log=log) as process:
            deadline = time.monotonic() + 30
            while " ready." not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        text = log.read_text().replace(queue, "QUEUE")
        lines = [re.sub(r"0x[0-9a-f]+|\d+", "N", line).rstrip() for line in text.splitlines()]
        return [line for line in lines if line and "otelkit" not in line]

    assert worker("1") == worker("0")
    exported = [str(log.body) for log in sink.logs if log.scope.startswith("celery")]
    assert any("ready." in body for body in exported)
