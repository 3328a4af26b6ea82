"""Keeps rows in slices of DuckDB, within a bound of rows, bytes and age.

One thread writes; any number read, each with a cursor of its own. A batch is written in one transaction with its
roll-ups: readers see all of it or nothing.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from otelkit.viewer import rollups, schema
from otelkit.viewer.blocks import Blocks
from otelkit.viewer.slices import Slice, numbers, path_of

SLICES = 10
"""Into how many slices the bounds are divided: what is on disk is at most the bound and one of them."""

_ROW_GROUP = 10 * 2048
"""Rows: as many as are written at once where much comes in. A whole group is compressed and written once, while what is
less is logged, written, and written again with what fills the group up."""
_MOST_LOGGED = "64MB"  # until it is merged into the file

_LOCKED = re.compile("lock", re.IGNORECASE)


class DatabaseInUse(Exception):
    """Another process has the database open."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What is kept at most; the oldest goes first."""

    rows: int = 20_000_000
    bytes: int = 4 << 30
    age_s: float = 7 * 24 * 3600.0


class Store:
    """The database: a folder, or in memory where there is no path."""

    def __init__(self, path: Path | None, bounds: Bounds, *, say: Callable[[str], None]) -> None:
        """Opens what is there.

        Raises DatabaseInUse, and OSError where the folder cannot be written.
        """
        self.path = path.absolute() if path is not None else None
        self.bounds = bounds
        self._say = say
        self._root = duckdb.connect(":memory:")
        # Of millions of rows it takes seconds, in which the writing thread would have to refuse what comes in.
        self._merges = ThreadPoolExecutor(1, "otelkit-viewer-merging")
        self._writer = self._root.cursor()
        self._seen: dict[str, set[int]] = {}
        self.slices: list[Slice] = []
        self.dropped_rows = 0
        self._configure()
        if self.path is not None:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in numbers(self.path):
                self._open(number)
        if not self.slices:
            self._add()
        self._writer.execute("CREATE SCHEMA IF NOT EXISTS viewer")
        self._show()
        self._next_log = 1 + max((self._newest_log(each) for each in self.slices), default=0)
        self._blocks = Blocks(1 + max((self._newest_block(each) for each in self.slices), default=0))
        # From here on SQL reaches no file but the slices, whoever writes it.
        if self.path is not None:
            folder = str(self.path).replace("'", "''")
            self._root.execute(f"SET allowed_directories=['{folder}/']")
        self._root.execute("SET enable_external_access=false")
        self._root.execute("SET lock_configuration=true")

    def _configure(self) -> None:
        megabytes = 256 + (self.bounds.bytes >> 20 if self.path is None else 0)
        self._root.execute(f"SET memory_limit='{megabytes}MB'")
        self._root.execute(f"SET checkpoint_threshold='{_MOST_LOGGED}'")
        self._root.execute("SET preserve_insertion_order=false")
        self._root.execute("SET TimeZone='UTC'")
        self._root.execute("SET autoinstall_known_extensions=false")
        self._root.execute("SET autoload_known_extensions=false")
        if self.path is not None:
            folder = str(self.path).replace("'", "''")
            self._root.execute(f"SET temp_directory='{folder}/tmp'")

    # Slices

    def _open(self, number: int) -> None:
        """Attaches a slice that is there; one that cannot be read is moved aside, and said so."""
        assert self.path is not None
        path = path_of(self.path, number)
        found = Slice(f"s{number:06}", number, path, path.stat().st_mtime)
        try:
            self._attach(found)
            (version,) = self._one(f"SELECT version FROM {found.name}.viewer_schema")
            if version != schema.VERSION:
                raise duckdb.CatalogException(f"its tables are of version {version}, not {schema.VERSION}")
            for table in ("spans", "logs", "points"):
                newest = "max(start_ns)" if table == "spans" else "max(time_ns)"
                count, newest_ns = self._one(f"SELECT count(*), coalesce({newest}, 0) FROM {found.name}.{table}")
                setattr(found, table, count)
                found.newest_ns = max(found.newest_ns, newest_ns)
        except duckdb.Error as error:
            if isinstance(error, duckdb.IOException) and _LOCKED.search(str(error)):
                raise DatabaseInUse(f"{path} is open in another process") from None
            self._detach(found)
            aside = found.move_aside()
            reason = str(error).splitlines()[0]
            self._say(f"{path.name} cannot be read ({reason}): it is now {aside.name}, and the rest is used without it")
            return
        self.slices.append(found)

    def _add(self) -> Slice:
        if self.slices and self.path is not None:
            # Nothing is logged for it any more: the end of the process has the newest slice alone to merge.
            full = self.slices[-1]
            full.merging = self._merges.submit(self._merge, full.name)
        number = self.slices[-1].number + 1 if self.slices else 1
        if self.path is not None:
            while path_of(self.path, number).exists():
                number += 1
        path = path_of(self.path, number) if self.path is not None else None
        made = Slice(f"s{number:06}", number, path, time.time())
        self._attach(made)
        for statement in schema.create(made.name, in_file=path is not None):
            self._writer.execute(statement)
        self.slices = [*self.slices, made]
        return made

    def _merge(self, name: str) -> None:
        with contextlib.suppress(duckdb.Error), self._root.cursor() as cursor:  # else it is done at the end
            cursor.execute(f"CHECKPOINT {name}")

    def _attach(self, found: Slice) -> None:
        where = str(found.path).replace("'", "''") if found.path is not None else ":memory:"
        self._writer.execute(
            f"ATTACH '{where}' AS {found.name} (ROW_GROUP_SIZE {_ROW_GROUP}, STORAGE_VERSION 'latest')"
        )

    def _detach(self, found: Slice) -> None:
        if found.merging is not None:
            wait([found.merging])
        self._seen.pop(found.name, None)
        self._writer.execute(f"DETACH DATABASE IF EXISTS {found.name}")

    def _show(self) -> None:
        """The views that span all slices."""
        for table in schema.TABLES:
            every = " UNION ALL ".join(f"SELECT * FROM {each.name}.{table}" for each in self.slices)
            self._writer.execute(f"CREATE OR REPLACE VIEW viewer.{table} AS {every}")
        for table, columns in schema.TABLES.items():
            if table in ("trace_parts", "repeats", "attribute_blocks"):
                continue
            shown = ", ".join(
                f"lower(hex({name})) AS {name}" if kind == "BLOB" else name for name, kind in columns.items()
            )
            self._writer.execute(f"CREATE OR REPLACE VIEW main.{table} AS SELECT {shown} FROM viewer.{table}")

    def _newest_log(self, found: Slice) -> int:
        return int(self._one(f"SELECT coalesce(max(id), 0) FROM {found.name}.logs")[0])

    def _newest_block(self, found: Slice) -> int:
        return int(self._one(f"SELECT coalesce(max(block), 0) FROM {found.name}.spans")[0])

    def _one(self, statement: str) -> tuple[Any, ...]:
        row = self._writer.execute(statement).fetchone()
        assert row is not None
        return tuple(row)

    # Writing

    def write(self, tables: Mapping[str, pa.Table]) -> None:
        """Writes a batch with its roll-ups, and lets go of what is beyond the bounds.

        Raises duckdb.Error where the disk is full; nothing of the batch is kept then.
        """
        current = self._roll()
        now = time.time_ns()
        newest = 0
        tables = dict(tables)
        if "sets" in tables:
            tables["spans"], tables["attribute_blocks"] = self._blocks.number(tables["spans"], tables.pop("sets"))
        self._writer.execute("BEGIN TRANSACTION")
        try:
            for table, rows in tables.items():
                if table == "logs":
                    rows = self._numbered(rows)
                self._insert(current, table, rows)
                newest = now
            self._writer.execute("COMMIT")
        except BaseException:
            self._seen.pop(current.name, None)
            self._blocks.begin()
            with contextlib.suppress(duckdb.Error):
                self._writer.execute("ROLLBACK")
            raise
        for table in ("spans", "logs", "points"):
            if table in tables:
                setattr(current, table, getattr(current, table) + tables[table].num_rows)
        current.arrow_bytes += sum(rows.nbytes for rows in tables.values())
        current.newest_ns = max(current.newest_ns, newest)

    def _insert(self, current: Slice, table: str, rows: pa.Table) -> None:
        name = f"batch_{table}"
        self._writer.register(name, rows)
        try:
            for statement in rollups.OF_TABLE.get(table, ()):
                self._writer.execute(statement.format(slice=current.name))
            if table in ("resources", "series"):
                rows = self._unseen(current, rows)
                self._writer.register(name, rows)
            if rows.num_rows:
                self._writer.execute(f"INSERT INTO {current.name}.{table} SELECT * FROM {name}")
        finally:
            self._writer.unregister(name)

    def _numbered(self, logs: pa.Table) -> pa.Table:
        first = self._next_log
        self._next_log += logs.num_rows
        place = logs.schema.get_field_index("id")
        ids = pa.array(range(first, self._next_log), pa.int64())
        return logs.set_column(place, logs.schema.field(place), ids)

    def _unseen(self, current: Slice, rows: pa.Table) -> pa.Table:
        """The rows whose first column, their id, this slice does not have."""
        key = f"{current.name}"
        if key not in self._seen:
            known = self._writer.execute(
                f"SELECT id FROM {current.name}.resources UNION ALL SELECT series FROM {current.name}.series"
            ).fetchall()
            self._seen[key] = {row[0] for row in known}
        seen = self._seen[key]
        fresh = []
        for place, identity in enumerate(rows.column(0).to_pylist()):
            if identity not in seen:
                seen.add(identity)
                fresh.append(place)
        return rows if len(fresh) == rows.num_rows else rows.take(pa.array(fresh, pa.int64()))

    def _roll(self) -> Slice:
        current = self.slices[-1]
        part = SLICES
        if current.rows and (
            current.rows >= self.bounds.rows // part
            or current.bytes >= self.bounds.bytes // part
            or time.time() - current.opened_s >= self.bounds.age_s / part
        ):
            current = self._add()
            self._blocks.begin()
            self._trim()
            self._show()
        return current

    def trim(self) -> None:
        """Lets go of slices that have become too old; called by the writing thread while nothing comes in."""
        current = self.slices[-1]
        if current.rows and self._too_old(current):
            self._add()
            self._blocks.begin()
            self._show()
        self._trim()

    def _trim(self) -> None:
        gone = []
        while len(self.slices) > 1 and self._beyond():
            oldest, *rest = self.slices
            self.slices = rest
            self.dropped_rows += oldest.rows
            gone.append(oldest)
        if gone:
            self._show()
        for oldest in gone:
            self._detach(oldest)
            oldest.unlink()

    def _beyond(self) -> bool:
        oldest = self.slices[0]
        return (
            self.bytes > self.bounds.bytes
            or sum(each.rows for each in self.slices) > self.bounds.rows
            or self._too_old(oldest)
        )

    def _too_old(self, found: Slice) -> bool:
        return found.newest_ns < time.time_ns() - self.bounds.age_s * 1e9

    # Reading

    @property
    def bytes(self) -> int:
        """What all slices take."""
        return sum(each.bytes for each in self.slices)

    def rows(self) -> dict[str, int]:
        """How many spans, logs and points are kept."""
        return {table: sum(getattr(each, table) for each in self.slices) for table in ("spans", "logs", "points")}

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for one reader, who closes it."""
        return self._root.cursor()

    def close(self) -> None:
        """Merges what is logged into the files and closes them."""
        for each in self.slices:
            self._detach(each)
        self.slices = []
        self._merges.shutdown()
        self._root.close()
