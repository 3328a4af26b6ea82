"""Comments in SQL statements that lead from the database's own logs and views to the service and the trace.

The form is https://google.github.io/sqlcommenter/spec/ : `/*service='shop',traceparent='00-…'*/` at the end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from otelkit.config.settings import Settings
from otelkit.engine import door
from otelkit.engine.context import current_span
from otelkit.runtime import guard

if TYPE_CHECKING:
    from otelkit.instrumentation.sqlalchemy import Running

# They keep statements that the server has prepared, by their text: one that differs each time would be prepared each
# time (asyncpg), or never (psycopg), and push the others out.
_PREPARE_BY_TEXT = frozenset(("asyncpg", "psycopg", "psycopg_async", "pg8000", "asyncmy"))
# Percent signs are placeholders to some drivers, colons and question marks to others: nothing but these letters.
_UNSAFE = re.compile(r"[^\w.\-]", re.ASCII)


class Commenter:
    """Gives a statement its comment."""

    def __init__(self, settings: Settings) -> None:
        self._always = settings.sqlcommenter == "always"
        name = settings.service_name or settings.resource_attributes.get("service.name")
        self._service = f"service='{_UNSAFE.sub('_', name)}'" if name else ""

    def comment(self, dialect: Any, sql: str, running: Running) -> str:
        """The text that is sent; as it is where there is nothing to say or it ends with a comment."""
        try:
            return self._commented(dialect, sql, running)
        except Exception:  # noqa: BLE001 - a statement is executed whatever telemetry does
            guard.report("a statement's comment")
            return sql

    def _commented(self, dialect: Any, sql: str, running: Running) -> str:
        parts = [self._service] if self._service else []
        if self._always or dialect.driver not in _PREPARE_BY_TEXT:
            span = running.span or current_span()
            found = door.traceparent(span) if span is not None else None
            if found is not None:
                parts.append(f"traceparent='{found.decode()}'")
        text = sql.rstrip()
        if not parts or text.endswith("*/"):
            return sql
        end = ";" if text.endswith(";") else ""
        return f"{text.rstrip(';')} /*{','.join(parts)}*/{end}"
