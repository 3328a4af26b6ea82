"""Databases as applications use them: each of SQLAlchemy's drivers that the tests know, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

T = TypeVar("T")

SQLITE = {"sqlite": "sqlite", "libsql": "sqlite+libsql", "aiosqlite": "sqlite+aiosqlite"}
POSTGRESQL = {
    "psycopg": "postgresql+psycopg",
    "psycopg-async": "postgresql+psycopg_async",
    "asyncpg": "postgresql+asyncpg",
}
ASYNC = ("aiosqlite", "psycopg-async", "asyncpg")
# One worker of pytest-xdist has the server.
ON_POSTGRESQL = pytest.mark.xdist_group("postgresql")


def drivers(*names: str) -> list[Any]:
    """Parameters for the fixture `database`."""
    return [pytest.param(name, marks=[ON_POSTGRESQL] if name in POSTGRESQL else []) for name in names]


EVERY = (*SQLITE, *POSTGRESQL)


class Database:
    """A database with the tables of the tests, by one driver; `attributes` are what its records say of it."""

    def __init__(self, driver: str, url: str, attributes: dict[str, Any]) -> None:
        self.driver = driver
        self.url = url
        self.attributes = attributes
        self.asynchronous = driver in ASYNC
        self._engines: list[sqlalchemy.Engine] = []

    @property
    def postgresql(self) -> bool:
        """Whether it is a PostgreSQL."""
        return self.driver in POSTGRESQL

    def engine(self, **options: Any) -> sqlalchemy.Engine:
        """An engine of a sync driver; it is disposed of with the test."""
        found = sqlalchemy.create_engine(self.url, **options)
        self._engines.append(found)
        return found

    def async_engine(self, **options: Any) -> AsyncEngine:
        """An engine of an async driver; whoever makes it disposes of it, in its loop."""
        return create_async_engine(self.url, **options)

    def run(self, work: Callable[[sqlalchemy.Connection], T], **options: Any) -> T:
        """Works with a connection in a transaction, which is committed, of an engine of its own."""
        if not self.asynchronous:
            engine = self.engine(**options)
            with engine.begin() as connection:
                return work(connection)

        async def main() -> T:
            asynchronous = self.async_engine(**options)
            try:
                async with asynchronous.begin() as connection:
                    return await connection.run_sync(work)
            finally:
                await asynchronous.dispose()

        return asyncio.run(main())

    def close(self) -> None:
        """Closes what its sync engines hold."""
        for engine in self._engines:
            engine.dispose()


@contextmanager
def opened(driver: str, folder: Path, postgresql: Callable[[], str]) -> Iterator[Database]:
    """A database of a driver; of PostgreSQL the server's own with an empty schema, of SQLite a new file."""
    if driver in SQLITE:
        if driver == "libsql":
            pytest.importorskip("sqlalchemy_libsql", reason="sqlalchemy-libsql is not installed")
        attributes: dict[str, Any] = {"db.system.name": "sqlite", "db.namespace": "shop.db"}
        found = Database(driver, f"{SQLITE[driver]}:///{folder}/shop.db", attributes)
    else:
        address = postgresql()
        server = f"{POSTGRESQL[driver]}://postgres@{address}/postgres"
        admin = sqlalchemy.create_engine(f"postgresql+psycopg://postgres@{address}/postgres")
        with admin.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        admin.dispose()
        host, _, port = address.partition(":")
        attributes = {
            "db.system.name": "postgresql",
            "db.namespace": "postgres",
            "server.address": host,
            "server.port": int(port),
        }
        found = Database(driver, server, attributes)
    try:
        yield found
    finally:
        found.close()
