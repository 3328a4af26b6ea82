"""Fault 57: a caller from outside says which of its requests are to be recorded: none of them, or all of a flood. Its
requests begin traces of their own, with a link to what it said, and the service's own sampler decides.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server import FAST, clean_environment, free_port, get, running, wait_until_up
from tests.support.sink import Sink
from tests.support.slow import slow

APP = """
import otelkit
otelkit.bootstrap("shop")
from fastapi import FastAPI

app = FastAPI()

@app.get("/{path}")
def index(path: str):
    with otelkit.span("inside"):
        return path
"""
SERVER, UNSET = 2, 0
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REQUESTS = 200


@pytest.mark.parametrize(
    ("flags", "rate", "fewest", "most"),
    [("00", "1", REQUESTS, REQUESTS), ("01", "0.25", 20, 80), *slow(("01", "0", 0, 0))],
    ids=["none of them", "a flood and a rate", "all of a flood"],
)
def test_a_caller_from_outside(sink: Sink, tmp_path: Path, flags: str, rate: str, fewest: int, most: int) -> None:
    """Through a proxy on loopback, which says for whom it asks."""
    (tmp_path / "app.py").write_text(APP)
    port, log = free_port(), tmp_path / "log"
    environ = clean_environment(
        **FAST,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
        OTELKIT_STATE_DIR=str(tmp_path / "state"),
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG=rate,
    )
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}", "x-forwarded-for": "203.0.113.7"}
    with running(["uvicorn", "app:app", "--port", str(port)], cwd=tmp_path, environ=environ, log=log) as process:
        wait_until_up(f"http://127.0.0.1:{port}/up/or/not", process, log)
        for _ in range(REQUESTS):
            assert get(f"http://127.0.0.1:{port}/asked", headers)[0] == 200
        sink.wait_for(
            lambda: sink.total("http.server.request.duration", http__route="/{path}") == REQUESTS, "the measurements"
        )
    requests = sink.named("GET /{path}")
    assert fewest <= len(requests) == len(sink.named("inside")) <= most
    assert len({span.trace_id for span in requests} | {TRACE}) == len(requests) + 1
    inside = {span.parent_id: span for span in sink.named("inside")}
    for span in requests:
        assert span.parent_id == ""
        assert (span.span.kind, span.span.status.code) == (SERVER, UNSET)
        assert (span.attributes["http.route"], span.attributes["http.response.status_code"]) == ("/{path}", 200)
        assert span.attributes["client.address"] == "203.0.113.7"
        assert inside[span.span_id].trace_id == span.trace_id
        assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.span.links] == [(TRACE, PARENT)]
