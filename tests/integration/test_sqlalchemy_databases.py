"""SQLAlchemy on each database and driver, sync and async: what a statement, a batch and an error are recorded as."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, String, Table, bindparam, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import otelkit
from tests.integration.conftest import Exported
from tests.support.databases import Database, drivers
from tests.support.sink import ReceivedSpan

metadata = MetaData()
users = Table("users", metadata, Column("id", Integer, primary_key=True), Column("name", String(20), unique=True))


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    plan: Mapped[str]


def statements(exported: Exported) -> list[ReceivedSpan]:
    """The spans under the test's own one, all of which are of statements."""
    caller = exported.span("caller")
    found = [span for span in exported.spans if span.scope == "otelkit.sqlalchemy"]
    assert {span.parent_id for span in found} <= {caller.span_id}
    assert {span.span.kind for span in found} <= {3}
    return found


def prepared(database: Database) -> None:
    """Makes the tables, outside of any trace."""
    database.run(metadata.create_all)
    database.run(Base.metadata.create_all)


def core(connection: sqlalchemy.Connection) -> None:
    connection.execute(insert(users), {"id": 4242, "name": "canary"})
    connection.execute(select(users).where(users.c.name == "canary"))


def orm(connection: sqlalchemy.Connection) -> None:
    with Session(connection) as session:
        session.add(Order(id=4242, plan="canary"))
        session.flush()
        session.scalars(select(Order).where(Order.plan == "canary")).all()


def literals(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("INSERT INTO users (id, name) VALUES (4242, 'canary') -- canary")
    connection.execute(text("SELECT id, name FROM users WHERE name IN ('canary', 'b', 'c')"))


@pytest.mark.parametrize(("work", "table"), [(core, "users"), (orm, "orders"), (literals, "users")])
def test_a_statement(
    exported: Exported, database: Database, work: Callable[[sqlalchemy.Connection], None], table: str
) -> None:
    """One span and one measurement each, by Core, the ORM and as text, without a value of it."""
    prepared(database)

    def main(connection: sqlalchemy.Connection) -> None:
        with otelkit.span("caller"):
            work(connection)

    database.run(main)
    found = statements(exported)
    assert [span.name for span in found] == [f"INSERT {table}", f"SELECT {table}"]
    for span, operation in zip(found, ("INSERT", "SELECT"), strict=True):
        told = span.attributes
        query = told.pop("db.query.text")
        summary = {"db.operation.name": operation, "db.query.summary": f"{operation} {table}"}
        assert told == {**database.attributes, **summary}
        assert query.startswith(operation)
        assert span.span.status.code == 0
        labels = {key.replace(".", "__"): value for key, value in told.items()}
        assert exported.total("db.client.operation.duration", **labels) == 1
        measured = exported.sink.seconds("db.client.operation.duration", **labels)
        assert 0 < measured <= span.duration_s + 0.01
    assert "4242" not in str([span.attributes for span in found])
    assert "canary" not in str(exported.sink.spans)
    if work is literals:
        assert found[1].attributes["db.query.text"] == "SELECT id, name FROM users WHERE name IN (?, …)"


@pytest.mark.parametrize("count", [2, 30])
def test_a_list_of_values_is_one_text(exported: Exported, database: Database, count: int) -> None:
    """`IN` with so many values is one statement, whatever the driver's placeholders and casts look like."""
    prepared(database)

    def main(connection: sqlalchemy.Connection) -> None:
        with otelkit.span("caller"):
            connection.execute(select(users.c.id).where(users.c.id.in_(list(range(count)))))
            wanted: sqlalchemy.BindParameter[Any] = bindparam(
                "names", [f"n{number}" for number in range(count)], expanding=True
            )
            connection.execute(select(users.c.id).where(users.c.name.in_(wanted)))

    database.run(main)
    assert [span.attributes["db.query.text"] for span in statements(exported)] == [
        "SELECT users.id FROM users WHERE users.id IN (?, …)",
        "SELECT users.id FROM users WHERE users.name IN (?, …)",
    ]


@pytest.mark.parametrize("returning", [False, True], ids=["executemany", "returning"])
def test_a_batch(exported: Exported, database: Database, returning: bool) -> None:
    """Many rows are one span with their number; where they return values, one for each 500 of them."""
    prepared(database)

    def main(connection: sqlalchemy.Connection) -> None:
        with otelkit.span("caller"):
            rows = [{"id": number, "name": f"canary{number}"} for number in range(700)]
            if returning:
                connection.execute(
                    insert(users).returning(users.c.id), rows, execution_options={"insertmanyvalues_page_size": 500}
                )
            else:
                connection.execute(insert(users), rows)

    database.run(main)
    found = statements(exported)
    assert {span.name for span in found} == {"INSERT users"}
    assert [span.attributes["db.operation.batch.size"] for span in found] == ([500, 200] if returning else [700])
    for span in found:
        assert span.attributes["db.query.text"].startswith("INSERT INTO users (id, name) VALUES (?, …)")
        assert not any(placeholder in span.attributes["db.query.text"] for placeholder in ("%(", "$", "__"))
    assert exported.total("db.client.operation.duration", db__query__summary="INSERT users") == len(found)
    assert "canary" not in str(exported.sink.spans)


def test_a_streamed_result(exported: Exported, database: Database) -> None:
    """One span until the first row may be read; fetching the others, from a cursor of the server's too, adds none."""
    prepared(database)

    def main(connection: sqlalchemy.Connection) -> None:
        connection.execute(insert(users), [{"id": number, "name": f"n{number}"} for number in range(50)])
        with otelkit.span("caller"):
            streaming = connection.execution_options(stream_results=True, yield_per=10)
            assert len(list(streaming.execute(select(users)))) == 50

    database.run(main)
    (span,) = statements(exported)
    assert (span.name, span.span.status.code) == ("SELECT users", 0)
    assert exported.total("db.client.operation.duration", db__query__summary="SELECT users") == 1


CODES = {"unique": "23505", "syntax": "42601", "no table": "42P01"}
BROKEN = {"unique": "INSERT INTO users VALUES (1, 'canary')", "syntax": "SELEKT 1", "no table": "SELECT 1 FROM nowhere"}


@pytest.mark.parametrize("kind", CODES)
def test_an_error(exported: Exported, database: Database, kind: str) -> None:
    """The span has the driver's type and, of PostgreSQL, the SQLSTATE, which the measurement has too; no message."""
    prepared(database)

    def main(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO users VALUES (1, 'canary')")
        with otelkit.span("caller"), pytest.raises(Exception) as raised:  # noqa: PT011 - libSQL's are ValueErrors
            connection.exec_driver_sql(BROKEN[kind])
        connection.rollback()
        found.append(raised.value)

    found: list[BaseException] = []
    database.run(main)
    (span,) = statements(exported)
    told = span.attributes
    assert told.get("db.response.status_code") == (CODES[kind] if database.postgresql else None)
    driver = {"psycopg-async": "psycopg", "aiosqlite": "sqlite3", "sqlite": "sqlite3", "libsql": "ValueError"}
    assert told["error.type"].partition(".")[0] == driver.get(database.driver, database.driver)
    assert (span.span.status.code, span.span.status.message) == (2, told["error.type"])
    labels = {"error.type": told["error.type"], **database.attributes}
    labels = {key.replace(".", "__"): value for key, value in labels.items()}
    assert exported.total("db.client.operation.duration", **labels) == 1
    measured = exported.sink.seconds("db.client.operation.duration", **labels)
    assert 0 < measured <= span.duration_s + 0.01
    assert "canary" not in str(exported.sink.spans)


@pytest.mark.parametrize("database", drivers("psycopg", "psycopg-async", "asyncpg"), indirect=True)
def test_a_statement_that_the_server_cancels(exported: Exported, database: Database) -> None:
    """An error like any other, by its SQLSTATE."""

    def main(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("SET statement_timeout = 50")
        with otelkit.span("caller"), pytest.raises(DBAPIError):
            connection.exec_driver_sql("SELECT pg_sleep(30)")
        connection.rollback()

    database.run(main)
    (span,) = statements(exported)
    assert (span.attributes["db.response.status_code"], span.span.status.code) == ("57014", 2)
    assert exported.total("db.client.operation.duration", db__response__status_code="57014") == 1


@pytest.mark.parametrize("database", drivers("psycopg-async", "asyncpg"), indirect=True)
def test_a_task_that_is_cancelled_in_a_statement(exported: Exported, database: Database) -> None:
    """The span ends there, with `CancelledError`, which goes on through the application."""

    async def main() -> None:
        engine = database.async_engine()
        async with engine.connect() as connection:
            with otelkit.span("caller"):
                running = asyncio.ensure_future(connection.exec_driver_sql("SELECT pg_sleep(30)"))
                await asyncio.sleep(0.1)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
        await engine.dispose()

    asyncio.run(main())
    (span,) = statements(exported)
    assert (span.attributes["error.type"], span.span.status.code) == ("asyncio.exceptions.CancelledError", 2)
    assert exported.total("db.client.operation.duration", error__type="asyncio.exceptions.CancelledError") == 1


@pytest.mark.parametrize("database", drivers("psycopg", "asyncpg"), indirect=True)
@pytest.mark.parametrize("how", ["refused", "times out"])
def test_a_connection_that_fails(exported: Exported, database: Database, how: str) -> None:
    """One span `CONNECT` of the attempt, with what the driver raised; one that succeeds has none."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if how == "times out":
            silent.listen(5)  # takes connections and never says a word
        port = silent.getsockname()[1]
        database.url = database.url.replace(f":{database.attributes['server.port']}/", f":{port}/")
        connect = {"timeout": 0.3} if database.driver == "asyncpg" else {"connect_timeout": 2}
        with otelkit.span("caller"), pytest.raises((OperationalError, OSError, TimeoutError, asyncio.TimeoutError)):
            database.run(lambda connection: connection.exec_driver_sql("SELECT 1"), connect_args=connect)
    (span,) = statements(exported)
    told = span.attributes
    assert (span.name, span.span.status.code, told["server.port"]) == ("CONNECT", 2, port)
    assert told["error.type"].rpartition(".")[2] in (
        "OperationalError",
        "ConnectionTimeout",
        "ConnectionRefusedError",
        "TimeoutError",
    )
    assert exported.total("db.client.operation.duration", db__operation__name="CONNECT", server__port=port) == 1


def test_a_failed_batch_names_no_value(exported: Exported, database: Database) -> None:
    """A row of many that fails is the batch's error."""
    prepared(database)

    def main(connection: sqlalchemy.Connection) -> None:
        rows = [{"id": number // 2, "name": f"canary{number}"} for number in range(6)]
        with otelkit.span("caller"), pytest.raises((IntegrityError, ValueError)):
            connection.execute(insert(users), rows)
        connection.rollback()

    database.run(main)
    (span,) = statements(exported)
    assert (span.attributes["db.operation.batch.size"], span.span.status.code) == (6, 2)
    assert "canary" not in str(exported.sink.spans)
