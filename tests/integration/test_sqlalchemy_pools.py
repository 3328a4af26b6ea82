"""Every pool class: its connections in use and idle, waits, uses and time-outs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import pool
from sqlalchemy.exc import TimeoutError as PoolTimeout

import otelkit
from tests.integration.conftest import Exported
from tests.support.databases import Database, drivers

NAME = {"db__client__connection__pool__name": "shop.db"}
# Pool class -> its options, the most it may open, and what is idle after one connection was given back.
POOLS: dict[type[pool.Pool], tuple[dict[str, Any], int | None, int | None]] = {
    pool.QueuePool: ({"pool_size": 2, "max_overflow": 3}, 5, 1),
    pool.NullPool: ({}, None, None),
    pool.StaticPool: ({}, None, None),
    pool.SingletonThreadPool: ({}, None, None),
    pool.AssertionPool: ({}, None, None),
}


def count(exported: Exported, state: str) -> float | None:
    """The newest number of connections in a state; None where there is no such series."""
    exported.flush()
    found = [
        values[-1]
        for (_, labels), values in exported.sink.series("db.client.connection.count").items()
        if dict(labels) == {"db.client.connection.pool.name": "shop.db", "db.client.connection.state": state}
    ]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("kind", POOLS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("database", drivers("sqlite"), indirect=True)
def test_a_pool(exported: Exported, database: Database, kind: type[pool.Pool]) -> None:
    """In use while it is, given back or not kept after; each checkout is one wait and one use."""
    options, most, idle = POOLS[kind]
    engine = database.engine(poolclass=kind, **options)
    began_s = time.perf_counter()
    for _ in range(3):
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
            assert count(exported, "used") == 1
            assert count(exported, "idle") == (None if idle is None else 0)
    assert count(exported, "used") == 0
    assert count(exported, "idle") == idle
    assert exported.total("db.client.connection.wait_time", **NAME) == 3
    assert exported.total("db.client.connection.use_time", **NAME) == 3
    times_s = [exported.sink.seconds(f"db.client.connection.{kind}_time", **NAME) for kind in ("wait", "use")]
    assert min(times_s) > 0
    assert sum(times_s) < time.perf_counter() - began_s
    assert exported.total("db.client.connection.pending_requests", **NAME) == 0
    maxima = exported.sink.series("db.client.connection.max")
    assert [values[-1] for values in maxima.values()] == ([] if most is None else [most])


@pytest.mark.parametrize("database", drivers("aiosqlite"), indirect=True)
def test_the_pool_of_async_engines(exported: Exported, database: Database) -> None:
    """AsyncAdaptedQueuePool is counted like QueuePool; who waits in vain is a time-out and a failed span."""

    async def main() -> None:
        engine = database.async_engine(
            poolclass=pool.AsyncAdaptedQueuePool, pool_size=1, max_overflow=0, pool_timeout=0.1
        )
        async with engine.connect():
            with otelkit.span("caller"), pytest.raises(PoolTimeout):
                await engine.connect()
            assert (count(exported, "used"), count(exported, "idle")) == (1, 0)
        assert (count(exported, "used"), count(exported, "idle")) == (0, 1)
        await engine.dispose()

    asyncio.run(main())
    span = exported.span("CONNECT")
    assert span.parent_id == exported.span("caller").span_id
    assert (span.span.kind, span.span.status.code) == (3, 2)
    wanted = {
        "db.operation.name": "CONNECT",
        "db.query.summary": "CONNECT",
        "error.type": "sqlalchemy.exc.TimeoutError",
    }
    assert span.attributes == {**database.attributes, **wanted}
    assert span.span.end_time_unix_nano - span.span.start_time_unix_nano >= 90_000_000
    assert exported.total("db.client.connection.timeouts", **NAME) == 1
    assert exported.total("db.client.operation.duration", db__operation__name="CONNECT") == 1


@pytest.mark.parametrize("database", drivers("sqlite"), indirect=True)
def test_pools_of_one_name_are_one(exported: Exported, database: Database) -> None:
    """Two engines on one database add up; a pool with a name of its own stands by itself."""
    first, second = database.engine(), database.engine()
    named = database.engine(pool_logging_name="reports")
    with first.connect(), second.connect(), named.connect():
        assert count(exported, "used") == 2
        assert exported.total("db.client.connection.count", db__client__connection__pool__name="reports") == 1
        assert exported.total("db.client.connection.max", **NAME) == 30


@pytest.mark.parametrize("database", drivers("sqlite"), indirect=True)
@pytest.mark.parametrize("how", ["detach", "invalidate"])
def test_a_connection_that_leaves_its_pool(exported: Exported, database: Database, how: str) -> None:
    """It is not in use for ever."""
    engine = database.engine(poolclass=pool.NullPool)
    connection = engine.connect()
    getattr(connection, how)()
    connection.close()
    assert count(exported, "used") == 0
    assert exported.total("db.client.connection.use_time", **NAME) == 1


@pytest.mark.parametrize("database", drivers("sqlite"), indirect=True)
def test_one_connection_for_several_callers_at_once(exported: Exported, database: Database) -> None:
    """StaticPool has one connection, however many use it."""
    engine = database.engine(poolclass=pool.StaticPool, connect_args={"check_same_thread": False})
    with engine.connect(), engine.connect():
        assert count(exported, "used") == 1
    assert count(exported, "used") == 0


def test_engines_that_come_and_go(start: Callable[..., Exported], tmp_path: Any) -> None:
    """A pool that is gone has no series any more (1000 engines: tests/faults/test_f51_engines_that_come_and_go.py)."""
    exported = start()
    for _ in range(20):
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/shop.db")
        with engine.connect():
            pass
        engine.dispose()
    del engine
    exported.flush()
    exported.sink.metrics.clear()
    assert exported.total("db.client.connection.max", **NAME) == 0
