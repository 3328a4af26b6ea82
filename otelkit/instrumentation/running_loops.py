"""Watches event loops that answer no request: of a script, a consumer, a bot.

`run_forever`, by which every loop runs, is wrapped. Whoever runs for a moment only, as `asyncio.run` within sync code
does time and again, is not watched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

from otelkit.config.settings import Settings
from otelkit.instrumentation import imports
from otelkit.instrumentation.loop_timers import watch_running_loop
from otelkit.instrumentation.replacing import Undo, replace
from otelkit.runtime import guard

AFTER_S = 0.25
"""How long a loop has run when it is watched."""


def install(settings: Settings) -> Undo:
    """Has loops watched that run from now on, and the one that is running, as long as anything watches; returns the
    undo.
    """
    if not (settings.blocked_loop_s or settings.runtime_metrics):
        return lambda: None
    undo: list[Undo] = []
    imports.when_imported("asyncio.base_events", lambda: undo.append(_of_asyncio()))
    imports.when_imported("uvloop", lambda: undo.append(_of_uvloop()))
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        with suppress(RuntimeError):  # none runs here
            _soon(asyncio.get_running_loop())

    def undo_all() -> None:
        for step in undo:
            step()

    return undo_all


def _of_asyncio() -> Undo:
    from asyncio.base_events import BaseEventLoop

    return _of(BaseEventLoop)


def _of_uvloop() -> Undo:
    import uvloop

    return _of(uvloop.Loop)


def _of(loops: Any) -> Undo:
    original: Callable[[Any], None] = loops.run_forever

    def run_forever(self: Any) -> None:
        watch = None if self.is_closed() or self.is_running() else _soon(self)
        try:
            original(self)
        finally:
            if watch is not None:
                watch.cancel()

    return replace(loops, "run_forever", run_forever)


@guard.guard("the watch of an event loop")
def _soon(loop: Any) -> Any:
    # In a context of its own: the caller's may hold a request.
    return loop.call_later(AFTER_S, watch_running_loop, context=Context())
