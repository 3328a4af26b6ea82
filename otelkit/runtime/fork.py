"""The one fork hook: what must be made anew in a forked child registers here.

Rules in the child (facts: what ddtrace's and OpenTelemetry's fork hooks paid for): never wait for a thread, never
take an inherited lock, never flush or delete what the parent owns; throw it away and begin anew, lazily.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from types import MethodType

_children: list[weakref.WeakMethod[Callable[[], None]]] = []
_installed = False


def on_child(method: Callable[[], None]) -> None:
    """Calls a bound method in every forked child, as long as its object lives; in the order of registration."""
    global _installed
    assert isinstance(method, MethodType)
    _children.append(weakref.WeakMethod(method))
    if not _installed and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_run)
        _installed = True


def _run() -> None:
    from otelkit.runtime import guard

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
