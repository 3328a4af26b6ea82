"""What every question has: a span of time, a filter, a limit, and a cursor on the store with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from otelkit.viewer.filter import EVERYTHING, Filter
from otelkit.viewer.store import Store

MOST_ROWS = 500
LATEST_NS = (1 << 62) - 1
_LONGEST_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """Times are ns since the epoch; `before` is a list's cursor."""

    from_ns: int = 0
    to_ns: int = LATEST_NS
    filter: Filter = EVERYTHING
    limit: int = 100
    before: str | None = None


class Cursor:
    """A reader's connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows as dictionaries."""
        found = self._connection.execute(statement, list(parameters))
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def one(self, statement: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The only row."""
        row = self._connection.execute(statement, list(parameters)).fetchone()
        return tuple(row) if row is not None else ()


@contextmanager
def reading(store: Store) -> Iterator[Cursor]:
    """A cursor for one question; a statement that takes too long is interrupted (duckdb.InterruptException)."""
    with reading_connection(store) as connection:
        yield Cursor(connection)


@contextmanager
def reading_connection(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """As `reading`, the connection itself."""
    connection = store.cursor()
    timer = threading.Timer(_LONGEST_S, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield connection
    finally:
        timer.cancel()
        connection.close()


def ms(ns: int | None) -> float | None:
    """Nanoseconds as milliseconds; to the microsecond, which is what a float has room for."""
    return None if ns is None else round(ns / 1e6, 3)
