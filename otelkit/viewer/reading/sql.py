"""One SELECT of the user's own, over views with the names in docs/viewer/api.md; it can change nothing.

Only a single SELECT or EXPLAIN is run, and the database reaches no file but its own.
"""

from __future__ import annotations

from typing import Any

import duckdb

from otelkit.viewer.reading.asking import reading_connection
from otelkit.viewer.store import Store

MOST_ROWS = 1_000
LONGEST = 20_000


class NotAllowed(ValueError):
    """A statement that is none of those that are run."""


def select(store: Store, query: str) -> dict[str, Any]:
    """The columns and rows; `cut` where there were more.

    Raises NotAllowed, and duckdb.Error for what DuckDB does not understand.
    """
    if len(query) > LONGEST:
        raise NotAllowed(f"a statement has at most {LONGEST} characters")
    statements = duckdb.extract_statements(query)
    if len(statements) != 1 or statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise NotAllowed("one SELECT is run, and nothing else")
    with reading_connection(store) as connection:
        connection.execute("BEGIN TRANSACTION READ ONLY")
        found = connection.execute(statements[0])
        columns = [column[0] for column in found.description or ()]
        rows = found.fetchmany(MOST_ROWS + 1)
    return {
        "columns": columns,
        "rows": [list(map(_shown, row)) for row in rows[:MOST_ROWS]],
        "cut": len(rows) > MOST_ROWS,
    }


def _shown(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, (list, tuple)):
        return [_shown(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _shown(each) for key, each in value.items()}
    return str(value)
