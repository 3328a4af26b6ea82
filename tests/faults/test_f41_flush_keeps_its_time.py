"""A flush of one second where the collector answers 401 or its port refuses: not ok, within 1.1 s."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.spooled import nobody, run_service
from tests.support.raw import HTTP_200, Raw, read_request
from tests.support.sink import Answer, Sink
from tests.support.slow import slow

SOURCE = """
rounds = []
while len(rounds) < 3 and min(rounds, default=9) > 1.1:  # a machine that others use too may hold one of them up
    for number in range(1000):
        with otelkit.span("work"):
            otelkit.count("made")
    began = time.monotonic()
    report = otelkit.flush(1.0)
    rounds.append(time.monotonic() - began)
    assert not report.ok and report.delivered == 0, report
status = otelkit.status()
print(json.dumps([rounds, status["ledger"], status["in_memory"]]))
"""


def flushed(place: Path, port: int, *, environ: Mapping[str, str] | None = None) -> None:
    """What holds for a flush, and for the ledger after it."""
    finished = run_service(SOURCE, port, place, environ=environ)
    rounds, ledger, in_memory = json.loads(finished.out)
    assert min(rounds) <= 1.1
    assert ledger["traces"]["accepted"] == 1000 * len(rounds)
    accepted = sum(account["accepted"] for account in ledger.values())
    elsewhere = sum(account["spooled"] + sum(account["dropped"].values()) for account in ledger.values())
    assert accepted == elsewhere + in_memory, ledger


@pytest.mark.parametrize("spool", ["on", "off"])
def test_a_refused_port(tmp_path: Path, spool: str) -> None:
    """The official flush says True after 7.1 s."""
    with nobody() as port:
        flushed(tmp_path, port, environ={"OTELKIT_SPOOL": spool})


@pytest.mark.parametrize("status", [401, *slow(403)])
def test_refused_credentials(tmp_path: Path, sink: Sink, status: int) -> None:
    """Nothing was acknowledged, however fast the answer came."""
    sink.answer = lambda path: Answer(status)
    flushed(tmp_path, sink.port)


def test_a_collector_that_hangs(tmp_path: Path, sink: Sink) -> None:
    """Neither is it waited for."""
    sink.answer = lambda path: Answer(after_s=60)
    flushed(tmp_path, sink.port)


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", [HTTP_200 + b"x-padding: ", HTTP_200 + b"content-length: 100000\r\n\r\n"], ids=["head", "body"]
)
def test_an_answer_that_drips(tmp_path: Path, what: bytes) -> None:
    """A byte every tenth of a second: no single read of it takes long. The next one in the line is not waited for
    either, and a request that has had its time is given up.
    """
    asked: list[float] = []

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        asked.append(time.monotonic())
        connection.sendall(what)
        with contextlib.suppress(OSError):
            while time.monotonic() < asked[0] + 20:
                connection.sendall(b" ")
                time.sleep(0.1)

    with Raw(serve) as server:
        flushed(tmp_path, server.port, environ={"OTEL_EXPORTER_OTLP_TIMEOUT": "500"})
    assert len(asked) > 1


TWO_HOPS = """
for number in range(100):
    with otelkit.span("work"):
        otelkit.event("done", n=number)
began = time.monotonic()
report = otelkit.flush(1.0)
print(json.dumps([time.monotonic() - began, report.ok, otelkit.status()["ledger"]]))
"""


@pytest.mark.slow
def test_one_hop_that_hangs_keeps_the_other_signals_waiting_for_nothing(tmp_path: Path, sink: Sink) -> None:
    """The traces' hop takes what it is sent and never answers; the logs' has acknowledged all within the second."""
    with Sink() as hung:
        hung.answer = lambda path: Answer(after_s=60)
        environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{hung.url}/v1/traces"}
        finished = run_service(TWO_HOPS, sink.port, tmp_path, environ=environ)
    took_s, ok, ledger = json.loads(finished.out)
    assert took_s <= 1.3
    assert not ok
    assert ledger["traces"]["delivered"] == 0
    assert ledger["logs"]["delivered"] == ledger["logs"]["accepted"] >= 100
    assert ledger["metrics"]["delivered"] == ledger["metrics"]["accepted"] > 0
