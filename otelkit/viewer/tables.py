"""Rows as Arrow tables, which is how they wait and how DuckDB takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from otelkit.viewer import schema

Tables = dict[str, pa.Table]


def table_of(name: str, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Rows of one table; there is at least one."""
    made = schema.ARROW[name]
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, made, strict=True)], schema=made)
