"""KeyboardInterrupt, SystemExit and CancelledError are no failures of telemetry: they pass every guard unchanged."""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import celery
import fastapi
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

import otelkit
from otelkit.runtime import guard
from tests.support.process import kill_session, start_python
from tests.support.sink import Answer, Sink
from tests.support.started import Started, started

KINDS: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit, asyncio.CancelledError)
OK = 0  # a span's status: unset


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[Started]:
    """Telemetry with the instrumentations on."""
    with started(tmp_path / "state", disabled_instrumentations="") as running:
        yield running


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def error(request: pytest.FixtureRequest) -> BaseException:
    """What is raised in the application's code."""
    found: BaseException = request.param("the application's own")
    return found


def passes(call: Callable[[], object], error: BaseException) -> None:
    """Calls what raises; it must come out as itself, with nothing of ours as its context."""
    with pytest.raises(type(error)) as caught:
        call()
    assert caught.value is error
    assert error.__cause__ is error.__context__ is None


def ended(exported: Started, *names: str) -> None:
    """Each span has ended, and none is an error."""
    spans = exported.flush().spans
    for name in names:
        (span,) = [span for span in spans if span.name == name]
        assert (span.span.status.code, list(span.span.events)) == (OK, []), name


def test_out_of_a_span(exported: Started, error: BaseException) -> None:
    """A block and a decorated function, through both at once."""

    @otelkit.traced("function")
    def function() -> None:
        with otelkit.span("block"):
            raise error

    passes(function, error)
    ended(exported, "function", "block")


def test_out_of_a_traced_coroutine(exported: Started, error: BaseException) -> None:
    """Driven by hand: a loop would make a CancelledError of its own of one that leaves a task."""

    @otelkit.traced("coroutine")
    async def coroutine() -> None:
        raise error

    passes(lambda: coroutine().send(None), error)
    ended(exported, "coroutine")


def test_out_of_traced_generators(exported: Started, error: BaseException) -> None:
    """Raised by the body, and thrown into it by the consumer, sync and async."""

    @otelkit.traced("raises")
    def raises() -> Generator[int, None, None]:
        yield 1
        raise error

    @otelkit.traced("is thrown at")
    def thrown_at() -> Generator[int, None, None]:
        yield 1

    @otelkit.traced("asynchronous")
    async def asynchronous() -> AsyncGenerator[int, None]:
        yield 1
        raise error

    passes(lambda: list(raises()), error)
    body = thrown_at()
    next(body)
    passes(lambda: body.throw(error), error)

    async def consume() -> None:
        async for _ in asynchronous():
            pass

    passes(lambda: consume().send(None), error)
    ended(exported, "raises", "is thrown at", "asynchronous")


def test_out_of_a_guard(error: BaseException) -> None:
    """Whatever runs within one, a user's hook for example, may be where the signal comes."""
    before = dict(guard.failures)

    @guard.guard("a place")
    def guarded() -> None:
        raise error

    def block() -> None:
        with guard.guarded("a place"):
            raise error

    passes(guarded, error)
    passes(block, error)
    assert dict(guard.failures) == before


def test_out_of_a_log_handler(exported: Started, error: BaseException) -> None:
    """The application's own, which telemetry's wrapper of the logging module calls."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise error

    logger, handler = logging.getLogger("shop"), Handler()
    logger.addHandler(handler)
    try:
        passes(lambda: logger.warning("x"), error)
    finally:
        logger.removeHandler(handler)
    assert [log.body for log in exported.logs() if log.scope == "shop"] == ["x"]


async def no_message() -> dict[str, Any]:
    """The receive of an ASGI server whose client sends nothing more."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: MutableMapping[str, Any]) -> None:
    """The send of an ASGI server."""


SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/stops",
    "raw_path": b"/stops",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"shop")],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 80),
}


def test_out_of_a_request(exported: Started, error: BaseException) -> None:
    """An endpoint's, up to the server that called the application."""
    app = fastapi.FastAPI()

    @app.get("/stops")
    async def stops() -> None:
        raise error

    caught: list[BaseException] = []

    async def serve() -> None:
        try:
            await app(dict(SCOPE), no_message, send)
        except BaseException as found:  # noqa: BLE001 - it is looked at below; a loop would end with it
            caught.append(found)

    asyncio.run(serve())
    assert caught == [error]
    assert caught[0] is error
    ended(exported, "GET /stops")


def test_out_of_a_statement(exported: Started, error: BaseException) -> None:
    """A driver's, as when a signal comes while it waits for the database."""

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *arguments: Any) -> Any:
            if "stops" in sql:
                raise error
            return super().execute(sql, *arguments)

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

    engine = sqlalchemy.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(":memory:", factory=Connection), poolclass=StaticPool
    )

    def execute() -> None:
        with otelkit.span("caller"), engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 'stops'"))

    with pytest.raises(type(error)) as caught:  # its context is the driver's affair
        execute()
    assert caught.value is error
    assert sorted(span.name for span in exported.flush().spans) == ["SELECT", "caller"]
    engine.dispose()


def test_out_of_a_task(exported: Started, error: BaseException) -> None:
    """A Celery task's, run where it was sent from."""
    app = celery.Celery("tasks", broker="memory://")

    @app.task(name="stops")
    def stops() -> None:
        raise error

    passes(stops.apply, error)
    ended(exported, "process stops")


# -- from outside


def test_a_cancelled_asyncio_task_is_cancelled(exported: Started, tmp_path: Path) -> None:
    """Within a traced coroutine, a span and a statement that the database is at; a client went away, nothing failed."""
    began = asyncio.Event()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT count(*) FROM n"

    @otelkit.traced("task")
    async def work() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
        try:
            async with engine.connect() as connection:
                with otelkit.span("block"):
                    began.set()
                    await connection.execute(sqlalchemy.text(endless))
        finally:
            await engine.dispose()

    async def cancel() -> bool:
        task = asyncio.create_task(work())
        await asyncio.wait_for(began.wait(), 20)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancel())
    ended(exported, "task", "block")
    assert [span.name for span in exported.sink.spans if span.scope == "otelkit.sqlalchemy"] == ["SELECT n"]


def test_ctrl_c_while_otelkit_waits(tmp_path: Path, sink: Sink) -> None:
    """Of a flush that a hung collector holds up: the application's KeyboardInterrupt, at once."""
    sink.answer = lambda path: Answer(after_s=60)
    source = f"""
    import otelkit
    otelkit.bootstrap("shop", otlp_endpoint={sink.url!r}, shutdown_timeout_s=0)
    with otelkit.span("work"): pass
    try:
        print("flushing", flush=True)
        otelkit.flush(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    process = start_python(source, cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "flushing\n"
        deadline = time.monotonic() + 20
        while not sink.asked:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (out, process.returncode) == ("interrupted\n", 0), err
    finally:
        kill_session(process)
