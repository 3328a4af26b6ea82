"""The thread that writes: takes batches from a bounded queue, and writes what has come together.

Who hands in a batch is told at once whether there is room; there is none while more than `most_bytes` of requests wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection

import pyarrow as pa

from otelkit.viewer.edges import Edges, Seen
from otelkit.viewer.envelope import Batch
from otelkit.viewer.store import Store
from otelkit.viewer.tables import Tables, table_of

_EVERY_S, _LONGEST_S = 0.2, 1.0
_SHARE = 4  # of the time, what writing takes at most while little comes in
_MOST_ROWS = 40_000  # of one transaction
_ENOUGH_ROWS = 24_000  # to write them at once: more than a slice's row group, which is then written as it stays
_TRIM_EVERY_S = 10.0
_RECORDS = ("spans", "logs", "points")


class Writer:
    """Writes batches to a store; `written` is called after each write, with its tables, by the writing thread."""

    def __init__(
        self, store: Store, *, most_bytes: int, say: Callable[[str], None], written: Callable[[Tables], None]
    ) -> None:
        self._store = store
        self._most_bytes = most_bytes
        self._say = say
        self._written = written
        self._edges = Edges()
        self._waiting: deque[tuple[list[Tables], list[Seen], int]] = deque()
        self._bytes = 0
        self._rows = 0
        self._changed = threading.Condition()
        self._ending = False
        self._failing = False
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="otelkit-viewer-writer", daemon=True)
        self._thread.start()

    def admit(self, size: int) -> bool:
        """Reserves room for a request of so many bytes, which `put` or `release` gives back."""
        with self._changed:
            if self._ending or (self._bytes and self._bytes + size > self._most_bytes):
                return False
            self._bytes += size
            return True

    def release(self, size: int) -> None:
        """Gives back room that `admit` reserved and nothing needs; takes more where it is negative."""
        with self._changed:
            self._bytes -= size

    def put(self, batch: Batch, size: int) -> None:
        """Hands over a batch whose room was reserved."""
        with self._changed:
            self._waiting.append((batch.parts, batch.edges, size))
            self._rows += _rows_of(batch.parts)
            if self._rows >= _ENOUGH_ROWS:  # less is written when the pause is over, which needs nobody to say so
                self._changed.notify()

    @property
    def behind(self) -> bool:
        """Whether senders are refused, or soon will be."""
        return self._bytes > self._most_bytes // 2 or self._failing

    def close(self) -> None:
        """Writes what waits, and ends."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def drained(self, deadline_s: float) -> bool:
        """Waits until everything that was handed over is written."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            with self._changed:
                if not self._bytes:
                    return True
            time.sleep(0.01)
        return False

    def _run(self) -> None:
        trimmed = written = time.monotonic()
        pause_s = _EVERY_S
        while True:
            with self._changed:
                # Written together, many batches cost little more than one; the longer that takes, the longer the pause.
                while not self._ending and (left := written + pause_s - time.monotonic()) > 0:
                    if self._rows >= _ENOUGH_ROWS:
                        break
                    self._changed.wait(left)
                taken = self._take()
            began = time.monotonic()
            if not taken and self._ending and not self._waiting:
                break
            if taken:
                self._write(taken)
                written = time.monotonic()
                pause_s = min(max(_EVERY_S, _SHARE * (written - began)), _LONGEST_S)
                continue
            written, pause_s = began, _EVERY_S
            self._flush_edges(final=False)
            if time.monotonic() - trimmed > _TRIM_EVERY_S:
                trimmed = time.monotonic()
                self._trim()
        self._flush_edges(final=True)

    def _take(self) -> list[tuple[list[Tables], list[Seen], int]]:
        taken = []
        rows = 0
        while self._waiting and rows < _MOST_ROWS:
            each = self._waiting.popleft()
            rows += _rows_of(each[0])
            taken.append(each)
        self._rows -= rows
        return taken

    def _write(self, taken: list[tuple[list[Tables], list[Seen], int]]) -> None:
        try:
            joined = self._joined(taken)
            self._store.write(joined)
            self._failing = False
        except Exception as error:  # noqa: BLE001 - whatever it is, the next batch is written again
            self._failed(error, sum(_rows_of(parts, _RECORDS) for parts, _, _ in taken))
            return
        finally:
            self.release(sum(size for _, _, size in taken))
        try:
            self._written(joined)
        except Exception as error:  # noqa: BLE001 - it is written; only who watches has missed it
            self._say(f"open pages were not told of what came in: {_first_line(error)}")

    def _joined(self, taken: list[tuple[list[Tables], list[Seen], int]]) -> Tables:
        together: dict[str, list[pa.Table]] = {}
        for parts, edges, _ in taken:
            for part in parts:
                for name, table in part.items():
                    together.setdefault(name, []).append(table)
            self._edges.add(edges)
        joined = {name: pa.concat_tables(parts) for name, parts in together.items()}
        if rows := self._edges.take():
            joined["edges"] = table_of("edges", rows)
        return joined

    def _failed(self, error: Exception, records: int) -> None:
        self.lost += records
        if not self._failing:
            self._say(f"what was received could not be written, and is lost: {_first_line(error)}")
        self._failing = True

    def _trim(self) -> None:
        try:
            self._store.trim()
        except Exception as error:  # noqa: BLE001 - it is tried again
            self._say(f"what is too much or too old could not be removed: {_first_line(error)}")

    def _flush_edges(self, *, final: bool) -> None:
        rows = self._edges.take(everything=final)
        if rows:
            try:
                self._store.write({"edges": table_of("edges", rows)})
            except Exception as error:  # noqa: BLE001 - see above
                self._failed(error, 0)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _rows_of(parts: list[Tables], names: Collection[str] | None = None) -> int:
    return sum(table.num_rows for part in parts for name, table in part.items() if names is None or name in names)
