"""What every question has: a span of time, a filter, a limit, and a cursor on the store with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import duckdb

from otelkit.viewer.filter import EVERYTHING, Filter
from otelkit.viewer.store import Store

MOST_ROWS = 500
LATEST_NS = (1 << 62) - 1
LONGEST_S = 20.0
_AGAIN_S = 0.05
TOO_LONG = "this takes too long: ask for a shorter time"
TOO_LARGE = "this needs too much memory: ask for a shorter time"


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
        self.connection = connection
        self._stopped = False
        self._at_work = False

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows as dictionaries."""
        with self._executed(statement, parameters) as found:
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def one(self, statement: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The only row."""
        with self._executed(statement, parameters) as found:
            row = found.fetchone()
        return tuple(row) if row is not None else ()

    @contextmanager
    def _executed(self, statement: str, parameters: Sequence[Any]) -> Iterator[duckdb.DuckDBPyConnection]:
        self._at_work = True
        try:
            if self._stopped:
                raise duckdb.InterruptException("stopped")
            yield self.connection.execute(statement, list(parameters))
        finally:
            self._at_work = False

    def stop(self) -> None:
        """Ends the statement that runs, and each one after it, with duckdb.InterruptException; from any thread."""
        self._stopped = True
        with suppress(duckdb.ConnectionException):  # it was closed in the meantime
            self.connection.interrupt()
        if self._at_work:
            # A statement that is about to begin forgets that it was interrupted: until it has ended, it is told again.
            again = threading.Timer(_AGAIN_S, self.stop)
            again.daemon = True
            again.start()


@contextmanager
def reading(store: Store) -> Iterator[Cursor]:
    """A cursor for one question, which is stopped when it takes too long (duckdb.InterruptException)."""
    cursor = Cursor(store.cursor())
    timer = threading.Timer(LONGEST_S, cursor.stop)
    timer.daemon = True
    timer.start()
    try:
        yield cursor
    finally:
        timer.cancel()
        cursor.connection.close()


@contextmanager
def reading_connection(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """As `reading`, the connection itself."""
    with reading(store) as cursor:
        yield cursor.connection


def ms(ns: int | None) -> float | None:
    """Nanoseconds as milliseconds; to the microsecond, which is what a float has room for."""
    return None if ns is None else round(ns / 1e6, 3)
