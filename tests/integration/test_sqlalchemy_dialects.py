"""Where statements pass: every dialect's class, those too that call the one they inherit from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Connection
from sqlalchemy.engine.default import DefaultDialect

import otelkit
from otelkit.instrumentation.sqlalchemy_dialects import Dialects
from tests.integration.conftest import Exported


class Calling(SQLiteDialect_pysqlite):
    """Its methods call those that they replace."""

    supports_statement_cache = True

    def initialize(self, connection: Connection) -> None:
        super().initialize(connection)
        connection.exec_driver_sql("SELECT 'which server is it'")

    def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        super().do_execute(cursor, statement, parameters, context)

    def do_execute_no_params(self, cursor: Any, statement: Any, context: Any = None) -> None:
        super().do_execute(cursor, statement, (), context)

    def do_executemany(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        for each in parameters:
            super().do_execute(cursor, statement, each, context)


registry.register("sqlite.calling", __name__, "Calling")


def test_a_dialect_that_calls_another(start: Callable[..., Exported]) -> None:
    """One span a statement, none of what a new engine asks its server."""
    exported = start(otlp_timeout_s=10)
    engine = sqlalchemy.create_engine("sqlite+calling://")
    with otelkit.span("caller"), engine.connect() as connection:
        connection.execute(text("CREATE TABLE orders (id INTEGER)"))
        connection.execute(text("INSERT INTO orders VALUES (:id)"), [{"id": 1}, {"id": 2}])
        connection.execution_options(no_parameters=True).exec_driver_sql("SELECT id FROM orders")
        with pytest.raises(sqlalchemy.exc.OperationalError):
            connection.execute(text("SELECT id FROM missing"))
    engine.dispose()
    spans = [span for span in exported.spans if "db.system.name" in span.attributes]
    assert [span.name for span in spans] == ["CREATE orders", "INSERT orders", "SELECT orders", "SELECT missing"]
    assert spans[1].attributes["db.operation.batch.size"] == 2
    assert spans[3].attributes["error.type"] == "sqlite3.OperationalError"
    assert exported.total("db.client.operation.duration") == 4


def test_the_undo_gives_the_methods_back() -> None:
    """Of every class, but not one that somebody has wrapped since."""

    class Recorder:
        def begin(self, dialect: Any, sql: str, parameters: Any, context: Any, /) -> Any:
            return None

        def ended(self, running: Any, context: Any, /) -> None:
            raise AssertionError

        def failed(self, running: Any, context: Any, error: BaseException, /) -> None:
            raise AssertionError

    class Wrapped(Calling):
        def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
            super().do_execute(cursor, statement, parameters, context)

    def methods(cls: type[DefaultDialect]) -> list[Any]:
        return [vars(cls).get(name) for name in ("do_execute", "do_executemany", "do_execute_no_params", "initialize")]

    before = [methods(cls) for cls in (DefaultDialect, Calling)]
    dialects = Dialects(Recorder(), None)
    dialects.watch_all(DefaultDialect)
    assert all(now is not was for now, was in zip(methods(Calling), before[1], strict=True))
    somebodys = Wrapped.__dict__["do_execute"]

    def wrapped_since(*args: Any) -> Any:
        return somebodys(*args)

    Wrapped.do_execute = wrapped_since  # type: ignore[method-assign, assignment]
    dialects.undo()
    assert [methods(cls) for cls in (DefaultDialect, Calling)] == before
    assert Wrapped.__dict__["do_execute"] is wrapped_since
