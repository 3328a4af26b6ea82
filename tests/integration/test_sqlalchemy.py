"""SQLAlchemy on a real SQLite, sync and async: one span and one measurement a statement, and the pool's metrics."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import QueuePool

import otelkit
from tests.integration.conftest import Exported
from tests.support.contrib import needs_contrib
from tests.support.sink import attributes

metadata = MetaData()
users = Table("users", metadata, Column("id", Integer, primary_key=True), Column("name", String, unique=True))


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    plan: Mapped[str]


MakeEngine = Callable[..., sqlalchemy.Engine]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MakeEngine]:
    """Makes engines on a file of this test, its table made; what their pools hold is closed with the test."""
    with ExitStack() as made:

        def make(**options: Any) -> sqlalchemy.Engine:
            found = create_engine(f"sqlite:///{tmp_path}/shop.db", **options)
            made.callback(found.dispose)
            metadata.create_all(found)
            return found

        yield make


def statements(exported: Exported) -> list[dict[str, Any]]:
    """The attributes of the spans of statements."""
    return [span.attributes for span in exported.spans if span.scope == "otelkit.sqlalchemy"]


def test_a_statement_is_one_span_under_its_caller(exported: Exported, engine: MakeEngine) -> None:
    """Name, kind, parent and attributes follow the conventions; the text has no literal."""
    database = engine()
    with otelkit.span("caller"), database.connect() as connection:
        connection.execute(text("SELECT * FROM users WHERE name = 'canary' AND id = :id"), {"id": 4242})
    span, caller = exported.span("SELECT users"), exported.span("caller")
    assert (span.parent_id, span.span.kind) == (caller.span_id, 3)
    assert span.attributes == {
        "db.system.name": "sqlite",
        "db.namespace": "shop.db",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT users",
        "db.query.text": "SELECT * FROM users WHERE name = ? AND id = ?",
    }
    assert "canary" not in str(exported.sink.spans)
    assert "4242" not in str(span.attributes)


def test_statements_outside_of_a_trace_are_measured_and_make_no_trace(exported: Exported, engine: MakeEngine) -> None:
    """A statement of a migration or a pool's health check is counted, but begins no trace."""
    database = engine()
    with database.connect() as connection:
        connection.execute(select(users))
    assert statements(exported) == []
    assert exported.total("db.client.operation.duration", db__query__summary="SELECT users") == 1


def test_an_engine_made_before_bootstrap(start: Callable[..., Exported], engine: MakeEngine) -> None:
    """Engines and open connections that are there already are seen."""
    database = engine()
    with database.connect() as connection:
        exported = start()
        with otelkit.span("caller"):
            connection.execute(select(users))
    assert exported.span("SELECT users").attributes["db.operation.name"] == "SELECT"


def test_the_orm_and_executemany(exported: Exported, engine: MakeEngine) -> None:
    """One span for a bulk insert, with its batch size where the driver gets many parameters."""
    database = engine()
    Base.metadata.create_all(database)
    with otelkit.span("caller"), Session(database) as session:
        session.add(Order(plan="pro"))
        session.commit()
        session.execute(users.insert(), [{"name": f"n{number}"} for number in range(7)])
        session.commit()
    assert exported.span("INSERT orders").attributes["db.operation.name"] == "INSERT"
    assert exported.span("INSERT users").attributes["db.operation.batch.size"] == 7


def test_an_error_is_recorded_without_its_values(exported: Exported, engine: MakeEngine) -> None:
    """The type and the status, never the driver's message, which repeats values."""
    database = engine()
    with otelkit.span("caller"), database.begin() as connection:
        connection.execute(users.insert(), {"id": 1, "name": "canary"})
        with pytest.raises(IntegrityError):
            connection.execute(users.insert(), {"id": 1, "name": "canary"})
    failed = [found for found in statements(exported) if "error.type" in found]
    assert [found["error.type"] for found in failed] == ["sqlite3.IntegrityError"]
    span = next(span for span in exported.spans if span.attributes.get("error.type"))
    assert span.span.status.code == 2
    assert "canary" not in str(exported.sink.spans)
    assert exported.total("db.client.operation.duration", error__type="sqlite3.IntegrityError") == 1
    assert exported.total("db.client.operation.duration", db__query__summary="INSERT users") == 2


def test_async_engines(exported: Exported, tmp_path: Path) -> None:
    """One span a statement with the right parent, also with several tasks at once."""

    async def main() -> None:
        database = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
        async with database.begin() as connection:
            await connection.run_sync(metadata.create_all)

        async def one(number: int) -> None:
            with otelkit.span(f"task {number}"):
                async with database.connect() as connection:
                    await connection.execute(select(users))

        await asyncio.gather(*(one(number) for number in range(5)))
        await database.dispose()

    asyncio.run(main())
    selects = [span for span in exported.spans if span.name == "SELECT users"]
    assert {span.parent_id for span in selects} == {exported.span(f"task {n}").span_id for n in range(5)}
    assert len(selects) == 5


@needs_contrib("sqlite3")
def test_a_statement_is_one_span_with_every_contrib_instrumentation_installed(
    exported: Exported, engine: MakeEngine
) -> None:
    """The driver's instrumentation (sqlite3, installed here) stays off under SQLAlchemy."""
    database = engine()
    with otelkit.span("caller"), database.connect() as connection:
        connection.execute(select(users))
    assert [span.name for span in exported.spans] == ["SELECT users", "caller"]
    decision = otelkit.status()["libraries"]["sqlite3"]
    assert (decision["choice"], decision["reason"]) == ("off", "under sqlalchemy")
    assert sqlite3.connect is sqlite3.dbapi2.connect


def test_the_pool(exported: Exported, engine: MakeEngine) -> None:
    """Connections in use and idle, the most there may be, waits, uses and time-outs."""
    database = engine(poolclass=QueuePool, pool_size=1, max_overflow=1, pool_timeout=0.2)
    name = {"db__client__connection__pool__name": "shop.db"}
    first, second = database.connect(), database.connect()
    with pytest.raises(PoolTimeout):
        database.connect()
    used = {"db__client__connection__state": "used"}
    idle = {"db__client__connection__state": "idle"}
    assert exported.total("db.client.connection.count", **name, **used) == 2
    assert exported.total("db.client.connection.max", **name) == 2
    assert exported.total("db.client.connection.timeouts", **name) == 1
    first.close()
    second.close()
    assert exported.total("db.client.connection.count", **name, **used) == 0
    assert exported.total("db.client.connection.count", **name, **idle) == 1
    # metadata.create_all took one, then three callers came and one of them in vain.
    assert exported.total("db.client.connection.wait_time", **name) == 4
    assert exported.total("db.client.connection.use_time", **name) == 3


def test_who_waits_for_a_connection_is_pending(exported: Exported, engine: MakeEngine) -> None:
    """A caller that waits is visible while it waits."""
    database = engine(poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=10)
    held = database.connect()
    thread = threading.Thread(target=lambda: database.connect().close())
    thread.start()
    deadline = time.monotonic() + 8
    while exported.total("db.client.connection.pending_requests") != 1:
        assert time.monotonic() < deadline
    held.close()
    thread.join(10)
    assert exported.total("db.client.connection.pending_requests") == 0


def test_a_cancelled_or_broken_statement_ends_its_span(exported: Exported, engine: MakeEngine) -> None:
    """No statement leaves a span open."""
    database = engine()
    with otelkit.span("caller"), database.connect() as connection, pytest.raises(OperationalError):
        connection.execute(text("SELECT * FROM nowhere"))
    span = exported.span("SELECT nowhere")
    assert span.attributes["error.type"] == "sqlite3.OperationalError"


def test_what_is_kept_of_statements_is_bounded(exported: Exported, engine: MakeEngine) -> None:
    """However many different ones an engine runs, each is measured."""
    database = engine()
    with database.connect() as connection:
        for number in range(1200):
            connection.exec_driver_sql(f"SELECT {number} FROM users")
    assert 0 < len(vars(database.dialect)["_otelkit_state"].kinds) <= 512
    assert exported.total("db.client.operation.duration", db__query__summary="SELECT users") == 1200


def test_switched_off_again(start: Callable[..., Exported], engine: MakeEngine) -> None:
    """After shutdown the listeners and the wrapper are gone."""
    before = sqlalchemy.Engine.raw_connection
    start()
    assert sqlalchemy.Engine.raw_connection is not before
    otelkit.shutdown()
    assert sqlalchemy.Engine.raw_connection is before
    with engine().connect() as connection:
        connection.execute(select(users))


def test_the_labels_are_those_of_the_table(exported: Exported, engine: MakeEngine) -> None:
    """No metric carries a label that the table of metrics does not name."""
    from otelkit import semconv

    database = engine()
    with otelkit.span("caller"), database.connect() as connection:
        connection.execute(select(users))
    exported.flush()
    allowed = {metric.name: set(metric.labels) for metric in semconv.TABLE}
    seen = [metric for metric in exported.sink.metrics if metric.name.startswith("db.")]
    assert seen
    for metric in seen:
        for point in metric.points:
            assert set(attributes(point.attributes)) <= allowed[metric.name], metric.name
