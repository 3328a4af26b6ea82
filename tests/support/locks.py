"""The locks of otelkit: where its source makes them, and, in a running program, those that were made there."""

from __future__ import annotations

import ast
import sys
import threading
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2] / "otelkit"
KINDS = ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier")


def in_source() -> set[str]:
    """Every place of otelkit where a lock, or what has one within it, is made: `delivery/outbox.py Outbox.__init__`."""
    return {place for path in sorted(ROOT.rglob("*.py")) for place in _Places(path).found}


class _Places(ast.NodeVisitor):
    """Walks over a file, and remembers within which function it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._within: list[str] = []
        self.found: set[str] = set()
        self.lines: dict[int, str] = {}
        self._imported: set[str] = set()
        self.visit(ast.parse(path.read_text()))

    def _enter(self, node: Any) -> None:
        self._within.append(node.name)
        for line in range(node.lineno, node.end_lineno + 1):
            self.lines[line] = self._here()
        self.generic_visit(node)
        self._within.pop()

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _enter  # noqa: N815 - the names that ast calls

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "threading":
            self._imported |= {found.asname or found.name for found in node.names if found.name in KINDS}

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func) in {*(f"threading.{kind}" for kind in KINDS), *self._imported}:
            self.found.add(self._here())
        self.generic_visit(node)

    def _here(self) -> str:
        return f"{self._path.relative_to(ROOT)} {'.'.join(self._within) or 'module'}"


def watch() -> dict[str, list[Any]]:
    """From now on every lock that is made in a call from otelkit is kept, under the place of otelkit that made it:
    those of libraries among them (an import is no call). Call it before otelkit is imported.
    """
    made: dict[str, list[Any]] = defaultdict(list)
    files: dict[str, _Places] = {}

    def place() -> str | None:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith("<frozen importlib"):
                return None
            if name.startswith(str(ROOT)):
                places = files.get(name) or files.setdefault(name, _Places(Path(name)))
                return places.lines.get(frame.f_lineno, f"{Path(name).relative_to(ROOT)} module")
            frame = frame.f_back
        return None

    def watched(make: Any) -> Any:
        def making() -> Any:
            lock = make()
            if (where := place()) is not None:
                made[where].append(lock)
            return lock

        return making

    # Conditions, events and the others are made of these two.
    threading.Lock = watched(threading.Lock)
    threading.RLock = watched(threading.RLock)
    return made
