"""uWSGI, which forks its workers without Python's hooks: every record of its requests arrives."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from otelkit.delivery.ledger import pages
from tests.support.server import (
    AT_THE_END,
    BIN,
    FAST,
    PATIENT,
    clean_environment,
    free_port,
    get,
    running,
    wait_until_up,
)
from tests.support.sink import Sink

UWSGI = BIN / "uwsgi"
pytestmark = pytest.mark.skipif(not UWSGI.exists(), reason="uwsgi is not installed")

APP = """
import os
import otelkit
otelkit.bootstrap("shop")

def app(environ, start_response):
    with otelkit.span("work"):
        otelkit.count("visits")
        otelkit.event("said")
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
REQUESTS = 40
HOOKS = ["--enable-threads", "--py-call-uwsgi-fork-hooks"]
ACCEPTS = "this worker accepts requests"
LOADING_S = 60.0


@contextmanager
def served(sink: Sink, place: Path, options: Sequence[str], delays: Mapping[str, str]) -> Iterator[set[int]]:
    """Two workers have answered the requests, and live on within the block: their processes. SIGTERM ends them."""
    (place / "app.py").write_text(APP)
    port, log = free_port(), place / "log"
    command = [
        str(UWSGI),
        *("--http-socket", f"127.0.0.1:{port}", "--master", "--processes", "2"),
        *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
        *("--hook-accepting", f"print:{ACCEPTS}"),
        *("--virtualenv", sys.prefix, "--wsgi-file", "app.py", "--callable", "app", *options),
    ]
    environ = clean_environment(**delays, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, OTELKIT_STATE_DIR=str(place / "state"))
    with running(command, cwd=place, environ=environ, log=log) as server:
        wait_until_up(f"http://127.0.0.1:{port}/", server, log)
        # A worker that begins has no handler yet for the signal of a graceful end, and would miss it.
        until = time.monotonic() + LOADING_S
        while log.read_text().count(f"{ACCEPTS}\n") < 2:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        pids: set[int] = set()
        for _ in range(REQUESTS - 1):
            status, _, body = get(f"http://127.0.0.1:{port}/")
            assert status == 200, log.read_text()
            pids.add(int(body))
        yield pids


def check_arrived(sink: Sink, pids: set[int]) -> None:
    """Each record once, under the identity of its worker, and the workers' sums add up."""
    spans = sink.named("work")
    assert len({span.span_id for span in spans}) == len(spans) == REQUESTS
    assert {span.resource["process.pid"] for span in spans} >= pids
    assert sum(log.record.event_name == "said" for log in sink.logs) == REQUESTS
    assert sink.total("visits") == REQUESTS


@pytest.mark.parametrize("threads", [[], ["--enable-threads"], HOOKS], ids=["no threads", "threads", "fork hooks"])
@pytest.mark.parametrize("apps", [[], ["--lazy-apps"]], ids=["before the fork", "lazy-apps"])
@pytest.mark.slow
def test_every_record_of_its_requests_arrives(sink: Sink, tmp_path: Path, apps: list[str], threads: list[str]) -> None:
    """At the end of the workers, whether the application is loaded before the fork or in each of them."""
    with served(sink, tmp_path, [*apps, *threads], AT_THE_END) as pids:
        assert sink.named("work") == []
    check_arrived(sink, pids)
    assert list(pages(tmp_path / "state")) == []


@pytest.mark.parametrize("threads", [["--enable-threads"], HOOKS], ids=["threads", "fork hooks"])
@pytest.mark.parametrize("apps", [[], ["--lazy-apps"]], ids=["before the fork", "lazy-apps"])
@pytest.mark.slow
def test_with_threads_enabled_they_arrive_meanwhile(
    sink: Sink, tmp_path: Path, apps: list[str], threads: list[str]
) -> None:
    """Without them uWSGI keeps the interpreter to itself between requests."""
    with served(sink, tmp_path, [*apps, *threads], {**FAST, **PATIENT}) as pids:
        sink.wait_for(lambda: len(sink.named("work")) == REQUESTS, f"{REQUESTS} spans")
        sink.wait_for(lambda: sink.total("visits") == REQUESTS, f"{REQUESTS} visits")
    check_arrived(sink, pids)
