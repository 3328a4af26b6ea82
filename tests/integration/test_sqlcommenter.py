"""Comments in statements, as the database itself sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import text

import otelkit
from tests.integration.conftest import Exported
from tests.support.databases import Database, drivers

CLIENT, UNSET = 3, 0
LABELS = (
    "db.system.name",
    "db.namespace",
    "db.operation.name",
    "db.query.summary",
    "server.address",
    "server.port",
)
SEEN = "SELECT current_query()"


def sent(database: Database, sql: str = SEEN) -> list[str]:
    """What the server says it is executing, and what it has prepared, after a statement that ran ten times."""

    def work(connection: sqlalchemy.Connection) -> list[str]:
        found: list[str] = []
        for _ in range(10):
            with otelkit.span("caller"):
                found.append(connection.execute(text(sql)).scalar_one())
        counted = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE :like")
        prepared = connection.execute(counted, {"like": f"{sql}%"})
        found.append(str(prepared.scalar_one()))
        return found

    return database.run(work)


@pytest.mark.parametrize("database", drivers("psycopg", "asyncpg"), indirect=True)
@pytest.mark.parametrize("how", ["off", "on", "always"])
def test_a_comment(start: Callable[..., Exported], database: Database, how: str) -> None:
    """`on`: what is the same each time, so that the driver's one prepared statement stays; `always`: the trace context
    of the statement's own span; by default none. The recorded text has none of it.
    """
    exported = start(sqlcommenter=how)
    *seen, prepared = sent(database)
    spans = [span for span in exported.spans if span.attributes.get("db.query.text") == SEEN]
    assert len(spans) == 10
    assert [span.parent_id for span in spans] == [span.span_id for span in exported.spans if span.name == "caller"]
    assert {(span.name, span.span.kind, span.span.status.code) for span in spans} == {("SELECT", CLIENT, UNSET)}
    assert all(span.attributes.keys() == {*LABELS, "db.query.text"} for span in spans)
    measured = {name: value for name, value in spans[0].attributes.items() if name in LABELS}
    (values,) = [
        values
        for (_, labels), values in exported.sink.series("db.client.operation.duration").items()
        if dict(labels) == measured
    ]
    assert values[-1] == 10
    if how == "off":
        assert set(seen) == {SEEN}
    elif how == "on":
        assert set(seen) == {f"{SEEN} /*service='test'*/"}
        assert prepared == "1"
    else:
        assert seen == [
            f"{SEEN} /*service='test',traceparent='00-{span.trace_id}-{span.span_id}-03'*/" for span in spans
        ]
        assert prepared == ("0" if database.driver == "psycopg" else "10")


@pytest.mark.parametrize("database", drivers("sqlite", "aiosqlite"), indirect=True)
def test_a_driver_that_prepares_nothing_on_a_server(start: Callable[..., Exported], database: Database) -> None:
    """It gets the trace context too; a statement outside of a trace the service alone."""
    exported = start(sqlcommenter="on", otlp_timeout_s=10)
    seen: list[str] = []

    def work(connection: sqlalchemy.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        set_up = driver.set_trace_callback(seen.append)
        if set_up is not None:  # aiosqlite's is a coroutine
            sqlalchemy.util.await_only(set_up)
        with otelkit.span("caller"):
            connection.execute(text("SELECT :a"), {"a": 1})
            connection.execute(text("SELECT 2 /* mine */"))
        connection.execute(text("SELECT 3;"))

    database.run(work)
    spans = [span for span in exported.spans if span.name == "SELECT"]
    first = f"SELECT 1 /*service='test',traceparent='00-{spans[0].trace_id}-{spans[0].span_id}-03'*/"
    assert seen == [first, "SELECT 2 /* mine */", "SELECT 3 /*service='test'*/;"]
    assert re.fullmatch(r"[0-9a-f]{16}", spans[0].span_id)
    assert [span.attributes["db.query.text"] for span in spans] == ["SELECT ?", "SELECT ?"]


@pytest.mark.parametrize("database", drivers("sqlite", "psycopg"), indirect=True)
def test_a_name_cannot_end_the_comment(start: Callable[..., Exported], database: Database) -> None:
    """Whatever the service is called, the statement runs, with its parameters."""
    start(sqlcommenter="always")
    otelkit.shutdown()
    otelkit.bootstrap(
        "a'*/ ) %s ? :x %(a)s $1",
        sqlcommenter="always",
        traces_exporter="none",
        logs_exporter="none",
        metrics_exporter="none",
    )

    def work(connection: sqlalchemy.Connection) -> int:
        with otelkit.span("caller"):
            return int(connection.execute(text("SELECT :a + 0"), {"a": 7}).scalar_one())

    assert database.run(work) == 7
