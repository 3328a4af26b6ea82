"""Errors that nobody handled: what ends the program, a thread or a task, and what Python can only ignore.

The hooks of `sys` and `threading` and the event loops' `call_exception_handler` are wrapped: the error gets its log
record, then runs what was there before, so that what is printed stays.
"""

from __future__ import annotations

import importlib
import re
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

from opentelemetry._logs import SeverityNumber, get_logger

from otelkit.config.settings import Settings
from otelkit.instrumentation import imports
from otelkit.instrumentation.replacing import Undo, replace
from otelkit.runtime import guard
from otelkit.signals import exceptions

_OUR_THREADS = "otelkit-"
_BEHIND_THE_NAME = re.compile(r"[(<]")
_NO_ERRORS = (KeyboardInterrupt, SystemExit)


def install(settings: Settings) -> Undo:
    """Records unhandled errors as long as OTELKIT_UNHANDLED_ERRORS says so; returns the undo.

    An earlier hook runs after ours. Where a later one was put before ours in the meantime, the undo leaves both.
    """
    if not settings.unhandled_errors:
        return lambda: None
    if sys.version_info < (3, 11):
        # It makes groups of exceptions printable, unless the hook is another one already when it is imported.
        with suppress(ImportError):
            importlib.import_module("exceptiongroup")
    state = _State()
    undo = [_of_the_program(state), _of_threads(state), _of_the_ignored(state)]
    imports.when_imported("asyncio.base_events", lambda: undo.append(_of_asyncio(state)))
    imports.when_imported("uvloop", lambda: undo.append(_of_uvloop(state)))

    def undo_all() -> None:
        state.on = False
        for step in undo:
            step()

    return undo_all


class _State:
    """Whether a wrapper that somebody else keeps still records."""

    on = True

    def report(
        self, error: BaseException | None, mechanism: str, what: str, severity: SeverityNumber = SeverityNumber.ERROR
    ) -> None:
        """Emits the record; one without the stack trace where the error has left a span or was logged before."""
        if not self.on or error is None or isinstance(error, _NO_ERRORS):
            return
        with guard.guarded("the record of an unhandled error"):
            found = exceptions.mentioned(error)
            get_logger("otelkit.exceptions").emit(
                severity_number=severity,
                severity_text=severity.name,
                body=f"{what}: {found['exception.type']}: {exceptions.message(error)}",
                event_name="exception",
                attributes={**found, "otelkit.error.handled": False, "otelkit.error.mechanism": mechanism},
            )


def _of_the_program(state: _State) -> Undo:
    earlier = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
        state.report(error, "sys.excepthook", "the program ends", SeverityNumber.FATAL)
        earlier(kind, error, tb)

    return replace(sys, "excepthook", excepthook)


def _of_threads(state: _State) -> Undo:
    earlier = threading.excepthook

    def excepthook(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else "?"
        if not name.startswith(_OUR_THREADS):
            state.report(args.exc_value, "threading.excepthook", f"the thread {name} ends")
        earlier(args)

    return replace(threading, "excepthook", excepthook)


def _of_the_ignored(state: _State) -> Undo:
    """What is raised in a finalizer, a weak reference's callback or at the garbage collector's hands."""
    earlier = sys.unraisablehook

    def unraisablehook(args: sys.UnraisableHookArgs) -> None:
        # Not the object: a finalizer's is half gone.
        state.report(args.exc_value, "sys.unraisablehook", args.err_msg or "ignored in a finalizer")
        earlier(args)

    return replace(sys, "unraisablehook", unraisablehook)


def _of_asyncio(state: _State) -> Undo:
    from asyncio.base_events import BaseEventLoop

    return _of_loops(state, BaseEventLoop)


def _of_uvloop(state: _State) -> Undo:
    import uvloop

    return _of_loops(state, uvloop.Loop)


def _of_loops(state: _State, loops: Any) -> Undo:
    earlier = loops.call_exception_handler

    def call_exception_handler(self: Any, context: dict[str, Any]) -> None:
        with guard.guarded("the record of an unhandled error"):
            _in_its_context(context, state)
        earlier(self, context)

    return replace(loops, "call_exception_handler", call_exception_handler)


def _in_its_context(context: dict[str, Any], state: _State) -> None:
    """Reports within the task's or the callback's own context, from Python 3.12 on, which tells it: in its trace."""
    error = context.get("exception")
    # Without the arguments of a callback, which asyncio puts there.
    what = _BEHIND_THE_NAME.split(str(context.get("message") or "in the event loop"))[0].rstrip()

    def report() -> None:
        state.report(error, "asyncio", what)

    source = context.get("task") or context.get("future") or context.get("handle")
    own = getattr(source, "get_context", None)
    if own is None:
        report()
    else:
        own().copy().run(report)  # a copy: the context itself may be entered just now
