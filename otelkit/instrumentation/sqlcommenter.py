"""Comments in SQL statements that lead from the database's own logs and views to the service and the trace.

The form is https://google.github.io/sqlcommenter/spec/ : `/*service='shop',traceparent='00-…'*/` at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from otelkit.config.settings import Settings
from otelkit.engine import door
from otelkit.engine.context import current_span
from otelkit.runtime import guard

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# They keep statements that the server has prepared, by their text: one that differs each time would be prepared each
# time (asyncpg), or never (psycopg), and push the others out.
_PREPARE_BY_TEXT = frozenset(("asyncpg", "psycopg", "psycopg_async", "pg8000", "asyncmy"))
# Percent signs are placeholders to some drivers, colons and question marks to others: nothing but these letters.
_UNSAFE = re.compile(r"[^\w.\-]", re.ASCII)


class Commenter:
    """The listener before a statement that gives it its comment; `record` is the one that begins its span, `span_of`
    finds that in the execution's context.
    """

    def __init__(self, settings: Settings, record: Callable[..., None], span_of: Callable[[Any], Any]) -> None:
        self._record = record
        self._span_of = span_of
        self._always = settings.sqlcommenter == "always"
        name = settings.service_name or settings.resource_attributes.get("service.name")
        self._service = f"service='{_UNSAFE.sub('_', name)}'" if name else ""

    def before(
        self, connection: Connection, cursor: object, sql: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        """The statement with its comment, and the parameters as they are."""
        self._record(connection, cursor, sql, parameters, context, executemany)
        try:
            return self._commented(connection, sql, context), parameters
        except Exception:  # noqa: BLE001 - a statement is executed whatever telemetry does
            guard.report("a statement's comment")
            return sql, parameters

    def _commented(self, connection: Connection, sql: str, context: Any) -> str:
        parts = [self._service] if self._service else []
        if self._always or connection.dialect.driver not in _PREPARE_BY_TEXT:
            span = self._span_of(context) or current_span()
            found = door.traceparent(span) if span is not None else None
            if found is not None:
                parts.append(f"traceparent='{found.decode()}'")
        text = sql.rstrip()
        if not parts or text.endswith("*/"):
            return sql
        end = ";" if text.endswith(";") else ""
        return f"{text.rstrip(';')} /*{','.join(parts)}*/{end}"
