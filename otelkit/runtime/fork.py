"""The one fork hook: what must be made anew in a forked child registers here.

Rules in the child (facts: what ddtrace's and OpenTelemetry's fork hooks paid for): never wait for a thread, never
take an inherited lock, never flush or delete what the parent owns; throw it away and begin anew, lazily.
"""

from __future__ import annotations

import os
import random
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

_pid = _begun = os.getpid()
_late = threading.RLock()
_children: list[weakref.WeakMethod[Callable[[], None]]] = []
_installed = False
_waited = False


def on_child(method: Callable[[], None]) -> None:
    """Calls a bound method in every forked child, as long as its object lives; in the order of registration."""
    global _installed
    assert isinstance(method, MethodType)
    _children.append(weakref.WeakMethod(method))
    if not _installed and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
        _installed = True


def check() -> None:
    """Does the hook's work late, in the child of a fork that ran no hooks: uWSGI forks without telling Python.

    Called where a trace begins, so that a request pays for one look at the process id. What the child measured before
    that is lost.
    """
    if os.getpid() != _pid:
        _run_late()


def _run_late() -> None:
    global _begun, _pid
    pid = os.getpid()
    with _late:  # of two threads one does it, and the other one waits
        if _begun != pid:
            _begun = pid  # what is done here may check again
            random.seed()  # as Python's own hook: else all children would make the same ids
            _run()
            _pid = pid


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


def _after_in_child() -> None:
    global _late, _pid, _begun
    _late = threading.RLock()
    _pid = _begun = os.getpid()
    _run()


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
