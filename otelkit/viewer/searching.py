"""Answers a search while it goes on: a line of JSON for each part, as soon as it is there.

A search works in a thread, a part at a time, and only while its reader takes what it finds. When the reader is gone the
statement that runs is ended at once, and its connection closed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import duckdb
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from otelkit.viewer.reading.asking import LONGEST_S, TOO_LARGE, TOO_LONG, Cursor
from otelkit.viewer.store import Store

Parts = Iterator[dict[str, Any]]
Search = Callable[[Cursor], Parts]

_AT_ONCE = 4
"""Searches that work at the same time: of two cores DuckDB uses both for each."""


class Searches:
    """The searches that go on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(_AT_ONCE, "otelkit-viewer-search")
        self._running: set[Searching] = set()

    def begin(self, search: Search) -> Searching:
        """Begins one; it works when it is asked for its parts."""
        begun = Searching(search, Cursor(self._store.cursor()), self._threads, self._running.discard)
        self._running.add(begun)
        return begun

    def close(self) -> None:
        """Ends those that go on."""
        for each in list(self._running):
            each.stop()
        self._threads.shutdown()


class Searching:
    """One search; `ended` is called when it is over."""

    def __init__(
        self, search: Search, cursor: Cursor, threads: ThreadPoolExecutor, ended: Callable[[Searching], None]
    ) -> None:
        self._cursor = cursor
        self._parts = search(cursor)
        self._threads = threads
        self._ended = ended
        self._working: Future[dict[str, Any] | None] | None = None

    def next(self) -> Future[dict[str, Any] | None]:
        """Works for the next part; None after the last one. The one before must have come."""
        self._working = self._threads.submit(next, self._parts, None)
        return self._working

    def stop(self) -> None:
        """Ends it, whatever it does."""
        if self._working is None or self._working.cancel() or self._working.done():
            self._close()
            return
        self._working.add_done_callback(self._close)
        self._cursor.stop()

    def late(self) -> None:
        """Ends the part that is waited for, which then raises duckdb.InterruptException."""
        self._cursor.stop()

    def _close(self, _: object = None) -> None:
        self._cursor.connection.close()
        self._ended(self)


class SearchAnswer(Response):
    """The answer, as application/x-ndjson; its last line is `{"error": …}` where the search did not come to an end."""

    media_type = "application/x-ndjson"

    def __init__(self, searches: Searches, search: Search) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._searches, self._search = searches, search

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the lines until they end, or the reader has gone."""
        searching = self._searches.begin(self._search)
        left = asyncio.ensure_future(_left(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while (line := await _line(searching, left)) is not None:
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            left.cancel()
            searching.stop()


async def _line(searching: Searching, left: asyncio.Future[None]) -> bytes | None:
    """The next line; None after the last one, or when the reader has gone."""
    part = asyncio.wrap_future(searching.next())
    found: dict[str, Any] | None
    try:
        await asyncio.wait((part, left), timeout=LONGEST_S, return_when=asyncio.FIRST_COMPLETED)
        if left.done():
            return None
        if not part.done():
            searching.late()
        found = await part
    except duckdb.InterruptException:
        found = {"error": {"message": TOO_LONG}}
    except duckdb.OutOfMemoryException:
        found = {"error": {"message": TOO_LARGE}}
    finally:
        part.cancel()  # nobody waits for it any more; what works for it is stopped by the caller
    if found is None:
        return None
    return f"{json.dumps(found, ensure_ascii=False, separators=(',', ':'))}\n".encode("utf-8", "replace")


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
