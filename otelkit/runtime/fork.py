"""The one fork hook: what must be made anew in a forked child registers here.

Rules in the child (facts: what ddtrace's and OpenTelemetry's fork hooks paid for): never wait for a thread, never
take an inherited lock, never flush or delete what the parent owns; throw it away and begin anew, lazily.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from types import MethodType

from otelkit.runtime import guard

importing = threading.RLock()
"""Held by otelkit's threads while they import; a fork waits for it.

A module's import lock that is held at a fork stays locked in the child for ever, and whoever imports that module
there hangs (CPython makes only the global import lock anew). The threads import what they need once, at their start.
"""
_LONGEST_WAIT_S = 5.0
_SWITCH_S = 0.0001
"""How long a busy thread keeps the interpreter lock while a fork waits for imports. An import reads hundreds of files,
and waits for the lock after each: with CPython's 5 ms and three busy threads, for longer than a fork may take.
"""

_children: list[weakref.WeakMethod[Callable[[], None]]] = []
_installed = False
_waited = False


def on_child(method: Callable[[], None]) -> None:
    """Calls a bound method in every forked child, as long as its object lives; in the order of registration."""
    global _installed
    assert isinstance(method, MethodType)
    _children.append(weakref.WeakMethod(method))
    if not _installed and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_run)
        _installed = True


def _before() -> None:
    global _waited
    _waited = importing.acquire(blocking=False)
    if not _waited:
        usual = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            _waited = importing.acquire(timeout=_LONGEST_WAIT_S)
        finally:
            sys.setswitchinterval(usual)


def _after_in_parent() -> None:
    if _waited:
        importing.release()


def _run() -> None:
    global importing
    importing = threading.RLock()
    guard.throttle.reset_after_fork()
    for reference in list(_children):
        method = reference()
        if method is None:
            _children.remove(reference)
            continue
        try:
            method()
        except Exception:  # noqa: BLE001 - a fork must succeed whatever telemetry does
            guard.report("the fork hook")
