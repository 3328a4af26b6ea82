"""The tables of a slice of time: their columns for DuckDB and for Arrow, which is how rows come in.

Ids are BLOBs of 16 and 8 bytes, times nanoseconds since the epoch, attributes JSON objects in one line without blanks,
so that one attribute is found by its text.
"""

from __future__ import annotations

import pyarrow as pa

VERSION = 2
"""Of the tables; a file of another version is moved aside."""

_ARROW = {
    "BLOB": pa.binary(),
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "UBIGINT": pa.uint64(),
    "INTEGER": pa.int32(),
    "UINTEGER": pa.uint32(),
    "UTINYINT": pa.uint8(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DOUBLE[]": pa.list_(pa.float64()),
    "UBIGINT[]": pa.list_(pa.uint64()),
    "UINTEGER[]": pa.list_(pa.uint32()),
}

INGESTED: dict[str, dict[str, str]] = {
    "spans": {
        "trace_id": "BLOB",
        "span_id": "BLOB",
        "parent_id": "BLOB",  # NULL for a root
        "name": "VARCHAR",
        "service": "VARCHAR",
        "kind": "UTINYINT",
        "start_ns": "BIGINT",
        "duration_ns": "BIGINT",
        "status": "UTINYINT",
        "status_message": "VARCHAR",
        "scope": "VARCHAR",
        "resource": "BIGINT",
        "attributes": "VARCHAR",
        "events": "VARCHAR",
        "links": "VARCHAR",
        "route": "VARCHAR",
        "http_status": "INTEGER",
        "db_system": "VARCHAR",
        "statement": "VARCHAR",
        "repeated": "BIGINT",  # otelkit.db.n_plus_one.count
        "block": "BIGINT",  # numbered by the store
    },
    "logs": {
        "id": "BIGINT",
        "time_ns": "BIGINT",
        "severity": "UTINYINT",
        "severity_text": "VARCHAR",
        "body": "VARCHAR",
        "service": "VARCHAR",
        "trace_id": "BLOB",
        "span_id": "BLOB",
        "event_name": "VARCHAR",
        "scope": "VARCHAR",
        "resource": "BIGINT",
        "attributes": "VARCHAR",
    },
    "points": {
        "name": "VARCHAR",
        "type": "VARCHAR",
        "time_ns": "BIGINT",
        "start_ns": "BIGINT",
        "series": "BIGINT",
        "delta": "BOOLEAN",
        "value": "DOUBLE",
        "count": "UBIGINT",
        "sum": "DOUBLE",
        "bounds": "DOUBLE[]",
        "counts": "UBIGINT[]",
        "exemplars": "VARCHAR",
    },
    "series": {
        "series": "BIGINT",
        "name": "VARCHAR",
        "type": "VARCHAR",
        "unit": "VARCHAR",
        "monotonic": "BOOLEAN",
        "description": "VARCHAR",
        "service": "VARCHAR",
        "resource": "BIGINT",
        "labels": "VARCHAR",
    },
    "resources": {"id": "BIGINT", "service": "VARCHAR", "attributes": "VARCHAR", "first_ns": "BIGINT"},
    "errors": {
        "time_ns": "BIGINT",
        "trace_id": "BLOB",
        "span_id": "BLOB",
        "service": "VARCHAR",
        "release": "VARCHAR",
        "type": "VARCHAR",
        "message": "VARCHAR",
        "stack": "VARCHAR",
        "fingerprint": "VARCHAR",
        "given": "BOOLEAN",  # whether the sender said the fingerprint
    },
    "attribute_blocks": {"hash": "UINTEGER", "block": "BIGINT"},  # which attributes a block of spans has
    "edges": {
        "minute": "BIGINT",
        "source": "VARCHAR",
        "source_type": "VARCHAR",
        "target": "VARCHAR",
        "target_type": "VARCHAR",
        "bucket": "INTEGER",
        "requests": "BIGINT",
        "errors": "BIGINT",
    },
}
"""What is handed over as Arrow tables: table -> column -> type."""

DERIVED: dict[str, dict[str, str]] = {
    "trace_parts": {
        "trace_id": "BLOB",
        "start_ns": "BIGINT",
        "end_ns": "BIGINT",
        "spans": "BIGINT",
        "errors": "BIGINT",
        "services": "VARCHAR[]",
        "repeated": "BIGINT",
        "head_rank": "BIGINT",
        "head": "STRUCT(name VARCHAR, service VARCHAR, status UTINYINT, http_status INTEGER)",
    },
    "red": {
        "minute": "BIGINT",
        "service": "VARCHAR",
        "route": "VARCHAR",
        "bucket": "INTEGER",
        "requests": "BIGINT",
        "errors": "BIGINT",
        "last_ns": "BIGINT",
    },
    "statements": {
        "minute": "BIGINT",
        "service": "VARCHAR",
        "db_system": "VARCHAR",
        "statement": "VARCHAR",
        "bucket": "INTEGER",
        "count": "BIGINT",
        "longest_ns": "BIGINT",
        "trace_id": "BLOB",
        "span_id": "BLOB",
    },
    "repeats": {
        "trace_id": "BLOB",
        "parent_id": "BLOB",
        "service": "VARCHAR",
        "statement": "VARCHAR",
        "count": "BIGINT",
        "marked": "BOOLEAN",  # whether the sender counted
        "last_ns": "BIGINT",
    },
    "seen": {"resource": "BIGINT", "last_ns": "BIGINT"},
    "services": {
        "service": "VARCHAR",
        "spans": "BIGINT",
        "logs": "BIGINT",
        "errors": "BIGINT",
        "last_ns": "BIGINT",
    },
}
"""What is rolled up from the spans and logs of a batch as it is written: table -> column -> type."""

SETS = {"spans": "INTEGER", "hashes": "UINTEGER[]"}
"""What comes with spans, and becomes `attribute_blocks`: the attributes of so many spans, one row after the other."""

LONG_TEXTS = {
    "spans": ("attributes", "events", "links"),
    "logs": ("attributes", "body"),
    "errors": ("stack",),
    "points": ("exemplars",),
}
"""What is compressed with zstd in a file: half the size, and less work, than with what DuckDB chooses for it."""

TABLES = {**INGESTED, **DERIVED}
ARROW = {
    table: pa.schema([(name, _ARROW[kind]) for name, kind in columns.items()])
    for table, columns in {**INGESTED, "sets": SETS}.items()
}


def create(slice_name: str, *, in_file: bool) -> list[str]:
    """The statements that make the tables in an empty slice; what is kept in memory is not compressed."""
    made = []
    for table, columns in TABLES.items():
        long = LONG_TEXTS.get(table, ()) if in_file else ()
        of_table = (f"{name} {kind}{' USING COMPRESSION zstd' * (name in long)}" for name, kind in columns.items())
        made.append(f"CREATE TABLE {slice_name}.{table}({', '.join(of_table)})")
    made.append(f"CREATE TABLE {slice_name}.viewer_schema AS SELECT {VERSION} AS version")
    return made
