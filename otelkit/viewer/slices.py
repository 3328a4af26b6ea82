"""The files of a database: one a slice of time, so that the oldest can be unlinked: a DuckDB file does not shrink.

A database is a folder; its slices are `000001.duckdb`, `000002.duckdb` and so on.
"""

from __future__ import annotations

import re
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

_NUMBER = re.compile(r"(\d{6,})\.duckdb")


@dataclass
class Slice:
    """One slice: its name in SQL, its file (None in memory), and what is in it."""

    name: str
    number: int
    path: Path | None
    opened_s: float
    spans: int = 0
    logs: int = 0
    points: int = 0
    arrow_bytes: int = 0
    newest_ns: int = 0
    merging: Future[None] | None = None
    """What merges it, once it is full."""

    @property
    def rows(self) -> int:
        """How many spans, logs and points are in it."""
        return self.spans + self.logs + self.points

    @property
    def bytes(self) -> int:
        """What it takes on disk, with what DuckDB has logged and not merged yet; in memory what came in."""
        if self.path is None:
            return self.arrow_bytes
        return sum(size for path in (self.path, _log_of(self.path)) if (size := _size(path)))

    def unlink(self) -> None:
        """Removes its files."""
        if self.path is not None:
            _log_of(self.path).unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)

    def move_aside(self) -> Path:
        """Renames its files, and returns the new name of the first: what cannot be read is kept for whoever can."""
        assert self.path is not None
        aside = self.path.with_name(f"{self.path.name}.corrupt")
        count = 1
        while aside.exists():
            count += 1
            aside = self.path.with_name(f"{self.path.name}.corrupt-{count}")
        self.path.rename(aside)
        if _log_of(self.path).exists():
            _log_of(self.path).rename(_log_of(aside))
        return aside


def path_of(database: Path, number: int) -> Path:
    """The file of a slice."""
    return database / f"{number:06}.duckdb"


def numbers(database: Path) -> list[int]:
    """The numbers of the slices that are there, oldest first."""
    found = (_NUMBER.fullmatch(path.name) for path in database.iterdir())
    return sorted(int(match[1]) for match in found if match)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
