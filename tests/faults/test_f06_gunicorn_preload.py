"""Fault 6: gunicorn with --preload, whose workers are forked after telemetry began: 10,000 requests, 10,000 spans."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from tests.support.server import FAST, clean_environment, free_port, running, wait_until_said
from tests.support.sink import Sink

APP = """
import otelkit
otelkit.bootstrap("shop")
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

with otelkit.span("loaded"):
    otelkit.event("loaded")

async def index(request):
    return PlainTextResponse("x")

app = Starlette(routes=[Route("/", index)])
"""
WORKERS, CONNECTIONS, REQUESTS = 2, 10, 10_000


@pytest.mark.slow
def test_ten_thousand_requests(tmp_path: Path, sink: Sink) -> None:
    """Over connections that stay open; the master has recorded, and started its threads, before it forks."""
    (tmp_path / "app.py").write_text(APP)
    port, log = free_port(), tmp_path / "log"
    environ = clean_environment(
        **FAST,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
        OTELKIT_STATE_DIR=str(tmp_path / "state"),
        OTELKIT_SHUTDOWN_TIMEOUT_S="10",
        OTEL_BSP_MAX_QUEUE_SIZE="20000",
    )
    command = ["gunicorn", "app:app", "--preload", "-k", "uvicorn_worker.UvicornWorker", "-w", str(WORKERS)]
    with running([*command, "-b", f"127.0.0.1:{port}"], cwd=tmp_path, environ=environ, log=log) as master:
        wait_until_said(log, "startup complete", WORKERS)
        answered: list[int] = []
        clients = [
            threading.Thread(target=lambda: answered.append(_request(port, REQUESTS // CONNECTIONS)))
            for _ in range(CONNECTIONS)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert sum(answered) == REQUESTS, log.read_text()
    spans = sink.named("GET /")
    assert len({span.span_id for span in spans}) == len({span.trace_id for span in spans}) == len(spans) == REQUESTS
    pids = {span.resource["process.pid"] for span in spans}
    assert len(pids) == WORKERS
    assert master.pid not in pids
    assert len(sink.named("loaded")) == [log.record.event_name for log in sink.logs].count("loaded") == 1


def _request(port: int, times: int) -> int:
    """Sends requests over one connection, one after the other: how many were answered."""
    answered = 0
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for _ in range(times):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
            received = b""
            while not received.endswith(b"\r\n\r\nx"):
                part = connection.recv(65536)
                assert part, received
                received += part
            answered += received.startswith(b"HTTP/1.1 200 OK")
    return answered
