"""An async and a sync engine over one database: each query is one span (contrib#2149: two of an async one's)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import otelkit
from tests.support.started import Started, started

Start = Callable[[], AbstractContextManager[Started]]


@pytest.fixture(params=["before", "after"])
def engines(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Started, sqlalchemy.Engine, AsyncEngine]]:
    """Both engines on one file, made before the start of telemetry and after it."""

    def make() -> tuple[sqlalchemy.Engine, AsyncEngine]:
        file = tmp_path / "shop.db"
        return sqlalchemy.create_engine(f"sqlite:///{file}"), create_async_engine(f"sqlite+aiosqlite:///{file}")

    made = make() if request.param == "before" else None
    with started(tmp_path / "state", disabled_instrumentations="") as running:
        sync, asynchronous = made or make()
        with sync.begin() as connection:
            connection.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
        yield running, sync, asynchronous
        sync.dispose()
        asyncio.run(asynchronous.dispose())


def test_one_span_a_query(engines: tuple[Started, sqlalchemy.Engine, AsyncEngine]) -> None:
    """In turns and at the same time, by connections, sessions and the sync engine that an async one is made of."""
    running, sync, asynchronous = engines
    queries = 5

    def synchronously(number: int) -> None:
        with otelkit.span(f"sync {number}"):
            with sync.connect() as connection:
                connection.execute(text("SELECT id FROM orders"))
            with Session(sync) as session:
                session.execute(text("SELECT count(*) FROM orders"))

    async def asynchronously(number: int) -> None:
        with otelkit.span(f"async {number}"):
            async with asynchronous.connect() as connection:
                await connection.execute(text("SELECT id FROM orders"))
                await connection.run_sync(lambda inner: inner.execute(text("SELECT max(id) FROM orders")))
            async with AsyncSession(asynchronous) as session:
                await session.execute(text("SELECT count(*) FROM orders"))

    async def main() -> None:
        for number in range(queries):
            synchronously(number)
            await asynchronously(number)
        for number in range(queries, 2 * queries):
            both = asyncio.to_thread(synchronously, number), asynchronously(number)
            await asyncio.gather(*both)
        await asynchronous.dispose()

    asyncio.run(main())
    sink = running.flush()
    names = {span.span_id: span.name for span in sink.spans}
    found = Counter(names.get(span.parent_id) for span in sink.spans if span.scope == "otelkit.sqlalchemy")
    assert found == Counter(
        {f"sync {number}": 2 for number in range(2 * queries)} | {f"async {number}": 3 for number in range(2 * queries)}
    )
    assert len(names) == len(sink.spans) == 2 * queries * (1 + 2 + 1 + 3)
    # Its text is the span's, whichever engine ran it; CREATE was measured, outside of a trace.
    assert sink.total("db.client.operation.duration") == 2 * queries * 5 + 1
