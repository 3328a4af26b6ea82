"""The thread that writes, when what it calls fails."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from otelkit.viewer.envelope import Batch
from otelkit.viewer.tables import Tables
from otelkit.viewer.writer import Writer

PATIENCE_S = 20.0


class FailingStore:
    """Fails at the first write, with an error that has no text; then keeps."""

    def __init__(self) -> None:
        self.written: list[Tables] = []
        self._failed = False

    def write(self, tables: Tables) -> None:
        if not self._failed:
            self._failed = True
            raise RuntimeError
        self.written.append(tables)

    def trim(self) -> None:
        raise OSError("no such folder")


def batch(numbers: list[int]) -> Batch:
    found = Batch()
    found.parts.append({"spans": pa.table({"number": numbers}), "resources": pa.table({"id": [1]})})
    return found


def test_no_failure_ends_it() -> None:
    """What could not be written is counted and said once; who watches and fails loses nothing; the next is written."""
    said: list[str] = []
    store: Any = FailingStore()

    def written(tables: Tables) -> None:
        raise RuntimeError("nobody listens")

    writer = Writer(store, most_bytes=1000, say=said.append, written=written)
    for numbers in ([1, 2, 3], [4, 5]):
        assert writer.admit(100)
        writer.put(batch(numbers), 100)
        assert writer.drained(PATIENCE_S)
    assert writer.lost == 3
    writer.close()
    assert [tables["spans"]["number"].to_pylist() for tables in store.written] == [[4, 5]]
    assert said == [
        "what was received could not be written, and is lost: RuntimeError",
        "open pages were not told of what came in: nobody listens",
    ]
