"""N+1 and slow statements: who caused them, on each kind of driver."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import ForeignKey, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import otelkit
from otelkit.signals import insights
from otelkit.testing import Captured
from tests.integration.conftest import Exported
from tests.support.databases import Database, drivers
from tests.support.process import run_python
from tests.support.sink import ReceivedSpan

BY_SYNC_AND_ASYNC = drivers("sqlite", "aiosqlite", "psycopg", "asyncpg")
ITEMS = re.compile("SELECT items.id.* FROM items WHERE ")


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[list[Item]] = relationship()


def filled(database: Database, orders: int) -> None:
    """Orders with an item each, made outside of any trace."""

    def fill(connection: sqlalchemy.Connection) -> None:
        Base.metadata.create_all(connection)
        connection.execute(insert(Order), [{"id": number} for number in range(orders)])
        connection.execute(insert(Item), [{"id": number, "order_id": number} for number in range(orders)])

    database.run(fill)


def line_of(function: Callable[..., Any], code: str) -> int:
    """Where some code of a function stands."""
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if code in line)


def read(connection: sqlalchemy.Connection) -> None:
    """Reads each order's items by themselves."""
    with Session(connection) as session:
        for order in session.scalars(select(Order).order_by(Order.id)):
            assert len(order.items) == 1  # one statement each


async def read_async(session: AsyncSession) -> None:
    """The same, awaited."""
    for number in (await session.scalars(select(Order.id))).all():
        await session.execute(select(Item.id, Item.order_id).where(Item.order_id == number))  # one each


def read_all(database: Database) -> tuple[str, int]:
    """Reads as an application of the database's kind does; the file, and the line that did it."""
    if not database.asynchronous:
        database.run(read)
        return __file__, line_of(read, "# one statement each")

    async def main() -> None:
        engine = database.async_engine()
        async with AsyncSession(engine) as session:
            await read_async(session)
        await engine.dispose()

    asyncio.run(main())
    return __file__, line_of(read_async, "# one each")


def of_n_plus_one(span: ReceivedSpan) -> dict[str, Any]:
    """What a span says of N+1."""
    prefix = "otelkit.db.n_plus_one."
    return {key.removeprefix(prefix): value for key, value in span.attributes.items() if key.startswith(prefix)}


@pytest.mark.parametrize("database", BY_SYNC_AND_ASYNC, indirect=True)
@pytest.mark.parametrize(("orders", "fires"), [(9, False), (12, True)])
def test_n_plus_one(exported: Exported, database: Database, orders: int, fires: bool) -> None:
    """Ten runs of one statement under one span mark that with how many they were at last, how long they took, and the
    line of the application; the metric counts the span once. Nine do nothing.
    """
    filled(database, orders)
    with otelkit.span("caller"):
        file, line = read_all(database)
    caller = exported.span("caller")
    selects = [span for span in exported.spans if span.name == "SELECT items"]
    assert len(selects) == orders
    assert {span.parent_id for span in selects} == {caller.span_id}
    found = of_n_plus_one(caller)
    if not fires:
        assert found == {}
        assert exported.total("otelkit.db.n_plus_one") == 0
        return
    taken = sum(span.span.end_time_unix_nano - span.span.start_time_unix_nano for span in selects) / 1e9
    assert 0 < found.pop("duration") <= taken
    assert ITEMS.match(found.pop("statement"))
    assert found.pop("caller").startswith(f"{file}:{line} in {__name__}.read")
    assert found == {"count": orders}
    with_line = [span.attributes for span in selects if "code.file.path" in span.attributes]
    assert [(told["code.file.path"], told["code.line.number"]) for told in with_line] == [(file, line)]
    labels = {**database.attributes, "db.operation.name": "SELECT", "db.query.summary": "SELECT items"}
    assert [dict(key[1]) for key in exported.sink.series("otelkit.db.n_plus_one")] == [labels]
    assert exported.total("otelkit.db.n_plus_one") == 1


def test_the_times_of_all_runs_add_up() -> None:
    """Of the first one too, which makes no tally yet."""

    class Parent:
        """A span of somebody else's."""

    parent = Parent()
    tallies = [insights.ran(parent, "SELECT 1", elapsed_ns) for elapsed_ns in (5, 7, 11)]
    assert tallies[0] is None
    assert tallies[2] is not None
    assert (tallies[2].count, tallies[2].total_ns) == (3, 23)


@pytest.mark.parametrize("database", drivers("sqlite"), indirect=True)
def test_the_worst_of_several_marks_the_span(exported: Exported, database: Database) -> None:
    """Both are counted; runs under other spans do not add up."""
    filled(database, 1)
    with otelkit.span("caller"), database.engine().connect() as connection:
        for _ in range(12):
            connection.execute(text("SELECT id FROM items WHERE id = 1"))
        for number in range(30):
            connection.execute(text(f"SELECT id FROM orders WHERE id = {number}"))
        for _ in range(12):
            connection.execute(text("SELECT order_id FROM items"))
        for number in range(9):
            with otelkit.span(f"inner {number}"):
                for _ in range(9):
                    connection.execute(text("SELECT count(*) FROM items"))
    found = of_n_plus_one(exported.span("caller"))
    assert (found["count"], found["statement"]) == (30, "SELECT id FROM orders WHERE id = ?")
    assert exported.total("otelkit.db.n_plus_one") == 3
    assert [of_n_plus_one(exported.span(f"inner {number}")) for number in range(9)] == [{}] * 9


@pytest.mark.parametrize("database", drivers("sqlite"), indirect=True)
@pytest.mark.parametrize(("threshold", "fires"), [(0, False), (3, True), (20, True), (21, False)])
def test_the_threshold_is_a_setting(
    start: Callable[..., Exported], database: Database, threshold: int, fires: bool
) -> None:
    """0 switches it off."""
    exported = start(n_plus_one_threshold=threshold)
    filled(database, 20)
    with otelkit.span("caller"):
        read_all(database)
    assert bool(of_n_plus_one(exported.span("caller"))) is fires
    assert exported.total("otelkit.db.n_plus_one") == fires


@pytest.mark.parametrize("database", drivers("sqlite", "asyncpg"), indirect=True)
def test_tests_list_them(telemetry: Captured, database: Database) -> None:
    """Each statement that repeats under one span: the span, how often, how long, where from."""
    filled(database, 12)
    with otelkit.span("caller"):
        file, line = read_all(database)
    (found,) = telemetry.n_plus_one()
    assert found.parent == telemetry.spans.named("caller").one()
    assert found.count == 12
    assert ITEMS.match(found.statement)
    assert found.duration_s > 0
    assert found.caller == f"{file}:{line}"
    assert telemetry.n_plus_one(at_least=13) == []


@pytest.mark.parametrize("database", BY_SYNC_AND_ASYNC, indirect=True)
@pytest.mark.parametrize("traced", [True, False])
def test_a_slow_query(start: Callable[..., Exported], database: Database, traced: bool) -> None:
    """One log record with the statement, its time and the application's line, in the statement's span, which has the
    line too; outside of a trace the record alone. Faster ones have none.
    """
    exported = start(slow_query_s=0.05)
    slow = "SELECT pg_sleep(0.06), 'canary'" if database.postgresql else f"SELECT count(*), 'canary' FROM {_LONG}"

    async def main() -> None:
        engine = database.async_engine()
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            await connection.execute(text(slow))  # awaited
        await engine.dispose()

    def run() -> int:
        if database.asynchronous:
            asyncio.run(main())
            return line_of(main, "# awaited")
        with database.engine().connect() as connection:
            connection.execute(text("SELECT 1"))
            connection.execute(text(slow))  # called
        return line_of(run, "# called")

    if traced:
        with otelkit.span("caller"):
            line = run()
    else:
        line = run()
    # The other statement, too, may take so long on a busy machine.
    (record,) = [log for log in exported.logs("otelkit.sqlalchemy") if log.attributes["code.line.number"] == line]
    assert (record.record.event_name, record.record.severity_text) == ("otelkit.db.slow_query", "WARN")
    told = record.attributes
    assert told["code.file.path"] == __file__
    assert told["code.function.name"].startswith(f"{__name__}.")
    assert told["otelkit.db.duration"] >= 0.05
    assert told["db.query.text"].startswith("SELECT ")
    assert record.body.startswith(f"slow query: {told['db.query.summary']} took ")
    assert f"({__file__}:{line} in " in record.body
    assert "canary" not in str([*exported.sink.logs, *exported.sink.spans])
    spans = [span for span in exported.spans if span.scope == "otelkit.sqlalchemy"]
    if traced:
        fast, one = spans
        assert record.record.span_id == one.span.span_id
        assert (one.attributes["code.file.path"], one.attributes["code.line.number"]) == (__file__, line)
        assert one.parent_id == exported.span("caller").span_id
        assert "code.file.path" not in fast.attributes
    else:
        assert (spans, record.record.span_id) == ([], b"")


_LONG = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000) SELECT i FROM n)"


@pytest.mark.parametrize("database", drivers("psycopg"), indirect=True)
def test_a_slow_query_that_fails_is_one_too(start: Callable[..., Exported], database: Database) -> None:
    """A time-out of the server is what slow queries often end in."""
    exported = start(slow_query_s=0.05)

    def main(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("SET statement_timeout = 100")
        with otelkit.span("caller"), pytest.raises(sqlalchemy.exc.OperationalError):
            connection.exec_driver_sql("SELECT pg_sleep(30)")
        connection.rollback()

    database.run(main)
    (record,) = exported.logs("otelkit.sqlalchemy")
    assert record.attributes["code.file.path"] == __file__


@pytest.mark.parametrize("database", drivers("sqlite"), indirect=True)
def test_no_slow_query_where_the_setting_is_zero(start: Callable[..., Exported], database: Database) -> None:
    """It is off then."""
    exported = start(slow_query_s=0)
    with otelkit.span("caller"), database.engine().connect() as connection:
        connection.execute(text(f"SELECT count(*) FROM {_LONG}"))
    assert exported.logs("otelkit.sqlalchemy") == []


def test_the_example_of_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    """Run as it stands; times and ids differ."""
    page = (Path(__file__).parents[2] / "docs" / "instrumentation" / "sqlalchemy.md").read_text(encoding="utf-8")
    source, printed = re.findall(r"```python\n(.*?)```\n\nprints\n\n(.*?)\n\n", page, re.DOTALL)[0]
    finished = run_python(source, cwd=tmp_path)
    shown, there = [re.findall(r"(?:list_orders|[├└]─ .*)", text) for text in (finished.out, printed)]
    without = [re.sub(r"[\d.]+ m?s each", "each", line) for line in (*shown, *there)]
    assert without[: len(shown)] == without[len(shown) :]
    assert len(shown) == 3
