"""What is new, as server-sent events: a thread looks up what each written batch has changed, and tells who listens.

A reader that is slow loses the oldest events, and is told how many. Nobody listens: nothing is looked up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import duckdb
import pyarrow.compute as pc

from otelkit.viewer.filter import EVERYTHING, Filter, FilterError
from otelkit.viewer.filter_sql import condition
from otelkit.viewer.reading.asking import Cursor, reading
from otelkit.viewer.reading.errors import newest as newest_errors
from otelkit.viewer.reading.logs import COLUMNS, unless_asked
from otelkit.viewer.reading.logs import shown as shown_log
from otelkit.viewer.reading.traces import matching
from otelkit.viewer.store import Store
from otelkit.viewer.tables import Tables

_MOST_WAITING = 500  # events a reader has not taken yet
_MOST_TRACES, _MOST_LOGS, _MOST_ERRORS = 50, 100, 20  # of one batch: nobody reads more a fifth of a second
_MOST_LOOKED_AT = 1_000  # spans of one batch, the last ones
_STATS_EVERY_S = 2.0


class Reader:
    """One who listens."""

    def __init__(self, found: Filter) -> None:
        self.filter = found
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._events: deque[tuple[str, Any]] = deque(maxlen=_MOST_WAITING)
        self.missed = 0

    def tell(self, events: list[tuple[str, Any]], missed: int) -> None:
        """Adds events; called by the looking thread."""
        self.missed += missed + max(0, len(self._events) + len(events) - _MOST_WAITING)
        self._events.extend(events)
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            return  # the server has ended

    async def next(self, timeout_s: float) -> list[tuple[str, Any]]:
        """What is new, after a wait where nothing is."""
        if not self._events:
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), timeout_s)
            except (asyncio.TimeoutError, TimeoutError):
                return []
        found = []
        while self._events:
            found.append(self._events.popleft())
        return found


class Live:
    """The readers, and the thread that looks up what to tell them."""

    def __init__(self, store: Store, stats: Callable[[], dict[str, Any]]) -> None:
        self._store = store
        self._stats = stats
        self._readers: set[Reader] = set()
        self._written: deque[Tables] = deque(maxlen=20)
        self._changed = threading.Condition()
        self._skipped = 0
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="otelkit-viewer-live", daemon=True)
        self._thread.start()

    def written(self, tables: Tables) -> None:
        """Notes what was written; called by the writing thread."""
        if not self._readers:
            return
        with self._changed:
            if len(self._written) == self._written.maxlen:
                self._skipped += 1
            self._written.append(tables)
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread and the streams."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    async def events(self, found: Filter) -> AsyncIterator[str]:
        """The stream of one reader, as text/event-stream."""
        reader = Reader(found)
        self._readers.add(reader)
        loop = asyncio.get_running_loop()
        told = 0.0
        try:
            while not self._ending:
                if loop.time() - told >= _STATS_EVERY_S or not told:
                    told = loop.time()
                    missed, reader.missed = reader.missed, 0
                    yield _event("stats", {**self._stats(), "missed": missed})
                for name, data in await reader.next(_STATS_EVERY_S / 4):
                    yield _event(name, data)
        finally:
            self._readers.discard(reader)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._written and not self._ending:
                    self._changed.wait()
                if self._ending:
                    return
                tables = self._written.popleft()
                skipped, self._skipped = self._skipped, 0
            by_filter: dict[Filter, list[Reader]] = {}
            for reader in list(self._readers):
                by_filter.setdefault(reader.filter, []).append(reader)
            try:
                with reading(self._store) as cursor:
                    for found, readers in by_filter.items():
                        events, missed = _news(cursor, tables, found)
                        for reader in readers:
                            reader.tell(events, missed + skipped)
            except duckdb.Error:
                continue  # its slice has just gone, or the store is closing


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _news(cursor: Cursor, tables: Tables, found: Filter) -> tuple[list[tuple[str, Any]], int]:
    events: list[tuple[str, Any]] = []
    missed = 0
    if "spans" in tables:
        spans = tables["spans"]
        newest = spans.slice(max(0, spans.num_rows - _MOST_LOOKED_AT))
        ids = list(dict.fromkeys(reversed(newest.column("trace_id").to_pylist())))[:_MOST_TRACES]
        missed += pc.count_distinct(spans.column("trace_id")).as_py() - len(ids)
        floor_ns = pc.min(newest.column("start_ns")).as_py()
        with contextlib.suppress(FilterError):  # a filter of logs
            events += [("trace", each) for each in matching(cursor, ids, found, floor_ns)]
    if "logs" in tables:
        logs = _logs(cursor, tables["logs"].num_rows, found)
        missed += max(0, tables["logs"].num_rows - _MOST_LOGS) if found == EVERYTHING else 0
        events += [("log", each) for each in logs]
    if "errors" in tables:
        prints = list(dict.fromkeys(reversed(tables["errors"].column("fingerprint").to_pylist())))[:_MOST_ERRORS]
        events += [("error", each) for each in newest_errors(cursor, prints)]
    return events, missed


def _logs(cursor: Cursor, written: int, found: Filter) -> list[dict[str, Any]]:
    """The newest of the log records that were written last."""
    try:
        sql, values = condition(found, "logs")
    except FilterError:
        return []  # a filter of spans
    sql += unless_asked(found)
    rows = cursor.rows(
        f"SELECT {COLUMNS} FROM viewer.logs WHERE id > (SELECT max(id) FROM viewer.logs) - ? AND {sql}"
        f" ORDER BY id DESC LIMIT {_MOST_LOGS}",
        [written, *values],
    )
    return [shown_log(row) for row in reversed(rows)]
