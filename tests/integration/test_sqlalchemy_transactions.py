"""Transactions, savepoints and two phases: nothing, events of the current span or spans of their own, by setting."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

import otelkit
from tests.integration.conftest import Exported
from tests.support.databases import Database, drivers

ROLLED_BACK = ("BEGIN", "SELECT", "ROLLBACK")
SAVEPOINTS = ("BEGIN", "SAVEPOINT", "SELECT", "RELEASE SAVEPOINT", "SAVEPOINT", "ROLLBACK TO SAVEPOINT", "COMMIT")
TWO_PHASES = ("BEGIN TWOPHASE", "SELECT", "PREPARE TRANSACTION", "COMMIT PREPARED")
TWO_BACK = ("BEGIN TWOPHASE", "SELECT", "PREPARE TRANSACTION", "ROLLBACK PREPARED")


def rolled_back(connection: sqlalchemy.Connection) -> None:
    connection.execute(text("SELECT 1"))
    connection.rollback()


def savepoints(connection: sqlalchemy.Connection) -> None:
    with connection.begin():
        with connection.begin_nested():
            connection.execute(text("SELECT 1"))
        connection.begin_nested().rollback()


def two_phases(connection: sqlalchemy.Connection) -> None:
    transaction = connection.begin_twophase(f"canary-{uuid.uuid4()}")
    connection.execute(text("SELECT 1"))
    transaction.prepare()
    transaction.commit()


def two_phases_back(connection: sqlalchemy.Connection) -> None:
    transaction = connection.begin_twophase(f"canary-{uuid.uuid4()}")
    connection.execute(text("SELECT 1"))
    transaction.prepare()
    transaction.rollback()


def work(database: Database, does: Callable[[sqlalchemy.Connection], None]) -> None:
    """On a connection without a transaction, within one span."""
    if not database.asynchronous:
        with database.engine().connect() as connection, otelkit.span("caller"):
            does(connection)
        return
    import asyncio

    async def main() -> None:
        engine = create_async_engine(database.url)
        async with engine.connect() as connection:
            with otelkit.span("caller"):
                await connection.run_sync(does)
        await engine.dispose()

    asyncio.run(main())


ONE_PHASE = [(rolled_back, ROLLED_BACK), (savepoints, SAVEPOINTS)]
BOTH_PHASES = [(two_phases, TWO_PHASES), (two_phases_back, TWO_BACK)]
CASES = [
    *[(driver, *case) for driver in ("sqlite", "aiosqlite", "psycopg", "asyncpg") for case in ONE_PHASE],
    *[("psycopg", *case) for case in BOTH_PHASES],
]


@pytest.mark.parametrize(
    ("database", "does", "steps"),
    [pytest.param(*case, marks=drivers(case[0])[0].marks, id=f"{case[0]}-{case[1].__name__}") for case in CASES],
    indirect=["database"],
)
@pytest.mark.parametrize("how", ["off", "events", "spans"])
def test_steps(
    start: Callable[..., Exported],
    database: Database,
    does: Callable[[sqlalchemy.Connection], None],
    steps: tuple[str, ...],
    how: str,
) -> None:
    """Each step once, in its order; by default only savepoints, as the statements that they are."""
    exported = start(sqlalchemy_transactions=how)
    work(database, does)
    caller = exported.span("caller")
    spans = [span for span in exported.spans if span.scope == "otelkit.sqlalchemy"]
    assert {span.parent_id for span in spans} == {caller.span_id}
    assert {(span.span.kind, span.span.status.code) for span in spans} == {(3, 0)}
    of_steps = [step for step in steps if step != "SELECT"]
    if how == "spans":
        assert [span.name for span in spans] == list(steps)
        begin = spans[0]
        assert begin.attributes == {
            **database.attributes,
            "db.operation.name": steps[0],
            "db.query.summary": steps[0],
        }
        for step in of_steps:
            assert exported.total("db.client.operation.duration", db__operation__name=step) == of_steps.count(step)
    else:
        # SQLAlchemy 2.0.0 prepares by a statement, later ones by a call of the driver's.
        words = [word for span in spans if (word := span.name.partition(" ")[0]) != "PREPARE" or how == "events"]
        by_statements = [step.partition(" ")[0] for step in steps if "SAVEPOINT" in step or step == "SELECT"]
        assert words == (by_statements if how == "off" else ["SELECT"])
    events = [event.name for event in caller.span.events]
    wanted = [f"db.transaction.{step.lower().replace(' ', '_')}" for step in of_steps]
    assert events == (wanted if how == "events" else [])
    assert "canary" not in str(exported.sink.spans)


@pytest.mark.parametrize("database", drivers("psycopg"), indirect=True)
@pytest.mark.parametrize("how", ["events", "spans"])
def test_a_commit_that_fails(start: Callable[..., Exported], database: Database, how: str) -> None:
    """A constraint that is checked at COMMIT is its error, by its SQLSTATE."""
    exported = start(sqlalchemy_transactions=how)
    with database.engine().connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        connection.commit()
        with otelkit.span("caller"):
            connection.exec_driver_sql("INSERT INTO t VALUES (1), (1)")
            with pytest.raises(DBAPIError):
                connection.commit()
    wanted = {"error.type": "psycopg.errors.UniqueViolation", "db.response.status_code": "23505"}
    if how == "events":
        (told,) = [event for event in exported.span("caller").span.events if event.name == "db.transaction.commit"]
        assert {pair.key: pair.value.string_value for pair in told.attributes} == wanted
    else:
        (span,) = [span for span in exported.spans if span.name == "COMMIT" and span.parent_id]
        assert wanted.items() <= span.attributes.items()
        assert (span.span.status.code, span.span.status.message) == (2, wanted["error.type"])
        assert exported.total("db.client.operation.duration", db__response__status_code="23505") == 1


@pytest.mark.parametrize("how", ["events", "spans"])
def test_the_methods_are_the_librarys_own_again(start: Callable[..., Exported], how: str) -> None:
    """After shutdown, and all the time where the setting is off."""
    connection_class = sqlalchemy.Connection
    before = {name: value for name, value in vars(connection_class).items() if name.endswith("_impl")}
    start(sqlalchemy_transactions=how)
    assert [name for name, value in before.items() if getattr(connection_class, name) is not value] == list(before)
    otelkit.shutdown()
    assert {name: getattr(connection_class, name) for name in before} == before
