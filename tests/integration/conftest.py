"""Telemetry of this process, exported for real to a receiver on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn

import otelkit
from examples.shop.redis_server import redis_server
from tests.support.server import free_port
from tests.support.sink import ReceivedLog, ReceivedSpan, Sink


class Exported:
    """What the application under test has exported so far; every look flushes first."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def flush(self) -> None:
        """Sends everything; fails if anything was lost."""
        report = otelkit.flush()
        assert report.ok, report

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans, in the order in which they ended."""
        self.flush()
        return self.sink.spans

    def span(self, name: str) -> ReceivedSpan:
        """The only span of a name."""
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{len(found)} spans named {name!r}: {[span.name for span in self.sink.spans]}"
        return found[0]

    def logs(self, scope: str) -> list[ReceivedLog]:
        """The records of a logger."""
        self.flush()
        return [log for log in self.sink.logs if log.scope == scope]

    def total(self, name: str, **labels: Any) -> float:
        """The newest value of a sum or a histogram's count."""
        self.flush()
        return self.sink.total(name, **labels)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Exported]]:
    """Starts telemetry with settings; it ends with the test."""
    with Sink() as sink:

        def bootstrap(**settings: Any) -> Exported:
            otelkit.bootstrap("test", otlp_endpoint=sink.url, state_dir=str(tmp_path / "state"), **settings)
            return Exported(sink)

        yield bootstrap
        otelkit.shutdown()


@pytest.fixture
def exported(start: Callable[..., Exported]) -> Exported:
    """Telemetry with every default on."""
    return start()


@contextmanager
def served(app: Any, loop: Literal["auto", "asyncio", "uvloop"] = "auto") -> Iterator[str]:
    """An ASGI application under a real uvicorn in a thread; the value is its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, loop=loop))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = threading.Event()
        for _ in range(500):
            if server.started:
                break
            deadline.wait(0.02)
        assert server.started
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


Serve = Callable[[Any], AbstractContextManager[str]]


@pytest.fixture
def serve() -> Serve:
    """`with serve(app) as url:`"""
    return served


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis on loopback, one a test process."""
    with redis_server() as url:
        yield url
