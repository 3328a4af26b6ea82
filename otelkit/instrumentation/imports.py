"""Runs a function when a module has been imported, without importing it: a library that is not used costs nothing.

A finder at the head of `sys.meta_path` lets the other finders find the module, and wraps its loader for this one
import.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from otelkit.runtime import fork, guard

Hook = Callable[[], None]


class _Finder(MetaPathFinder):
    def __init__(self) -> None:
        self.hooks: dict[str, list[Hook]] = {}
        self.late: list[str] = []
        self.lock = threading.RLock()
        self._looking = threading.local()
        fork.on_child(self._after_fork)

    def _after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here."""
        self.lock = threading.RLock()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.late:
            _run_late()
        if fullname not in self.hooks or getattr(self._looking, "name", None) == fullname:
            return None
        self._looking.name = fullname
        try:
            for finder in sys.meta_path:
                find = getattr(finder, "find_spec", None)
                if finder is self or find is None:
                    continue
                spec: ModuleSpec | None = find(fullname, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader)
                    return spec
            return None
        finally:
            self._looking.name = None


class _Loader(Loader):
    """Stands before a module's loader for one import, then gives the module its own loader back."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _run(module.__name__)


_finder = _Finder()
_running = threading.local()


def when_imported(module: str, hook: Hook) -> None:
    """Calls `hook` once after `module` is imported, now if it is already; what it raises is logged, never the
    import's.

    At that moment a submodule is no attribute of its package yet: write `from package.module import name`.
    A module that is being imported just now (by the caller's caller) is due at the next import of anything.
    """
    with _finder.lock:
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        _finder.hooks.setdefault(module, []).append(hook)
    found = sys.modules.get(module)
    if found is None:
        return
    if _is_initializing(found):
        _finder.late.append(module)
    else:
        _run(module)


def forget_all() -> None:
    """Drops the hooks that have not run, and the finder."""
    with _finder.lock:
        _finder.hooks.clear()
        _finder.late.clear()
        if _finder in sys.meta_path:
            sys.meta_path.remove(_finder)


def _is_initializing(module: ModuleType) -> bool:
    # CPython's import system keeps this flag on the spec, for its own check of circular imports.
    return bool(getattr(module.__spec__, "_initializing", False))


def _run_late() -> None:
    waiting, _finder.late = _finder.late, []
    for name in waiting:
        module = sys.modules.get(name)
        if module is not None and _is_initializing(module):
            _finder.late.append(name)
        else:
            _run(name)


def _run(module: str) -> None:
    with _finder.lock:
        hooks = _finder.hooks.pop(module, [])
    waiting: list[tuple[str, list[Hook]]] | None = getattr(_running, "waiting", None)
    if waiting is not None:
        # What a hook imports is due after it: the hook's own module may be half made (contrib has one for httpx and
        # httpx2, and imports both).
        waiting.append((module, hooks))
        return
    _running.waiting = waiting = [(module, hooks)]
    try:
        for name, due in waiting:
            for hook in due:
                with guard.guarded(f"the instrumentation of {name}"):
                    hook()
    finally:
        _running.waiting = None
