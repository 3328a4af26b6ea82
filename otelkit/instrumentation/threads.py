"""The current span and what is bound go with the work that is handed to a thread, a process, or a pool of either.

asyncio's tasks, `asyncio.to_thread` and anyio copy the context by themselves, a fork copies it with all the rest.
`Thread.start`, `submit` of `ThreadPoolExecutor` (and with it `run_in_executor`) and of `ProcessPoolExecutor`, and
`start` of multiprocessing's processes are wrapped. A thread or process that a library starts for itself gets nothing:
it would be part of the first request for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from opentelemetry.context import Context

from otelkit.config.settings import Settings
from otelkit.engine.context import detach, variable
from otelkit.engine.seams import propagate
from otelkit.instrumentation import imports
from otelkit.instrumentation.replacing import Undo, replace
from otelkit.runtime import guard
from otelkit.signals import correlation
from otelkit.signals.fingerprints import in_application
from otelkit.signals.suppression import decided


def install(settings: Settings) -> Undo:
    """Wraps them; returns the undo. The pools' modules are wrapped when they are imported."""
    undo = [_of_threads()]
    imports.when_imported("concurrent.futures.thread", lambda: undo.append(_of_thread_pools()))
    imports.when_imported("concurrent.futures.process", lambda: undo.append(_of_process_pools()))
    imports.when_imported("multiprocessing.context", lambda: undo.append(_of_processes()))

    def undo_all() -> None:
        for step in undo:
            step()

    return undo_all


class Carried:
    """The part of a context that telemetry needs; a call runs a function with it, in another thread."""

    __slots__ = ("_context", "_decided", "_holder")

    def __init__(
        self, context: Context, holder: correlation.Holder | correlation.Scope | None, bound: int | None
    ) -> None:
        self._context = context
        self._holder = holder
        self._decided = bound

    def __call__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        context = variable.set(self._context)
        holder = correlation.share(self._holder)
        decision = decided.set(self._decided)
        try:
            return function(*args, **kwargs)
        finally:
            decided.reset(decision)
            correlation.close_holder(holder)
            detach(context)


class Sent:
    """The same for a function that another process runs, as text; there it begins with a context of its own."""

    __slots__ = ("_bound", "_carrier", "_decided")

    def __init__(
        self, carrier: Mapping[str, str], bound: Mapping[str, correlation.Value], decision: int | None
    ) -> None:
        self._carrier = carrier
        self._bound = bound
        self._decided = decision

    def __getstate__(self) -> tuple[Mapping[str, str], Mapping[str, correlation.Value], int | None]:
        return self._carrier, self._bound, self._decided

    def __setstate__(self, state: tuple[Mapping[str, str], Mapping[str, correlation.Value], int | None]) -> None:
        self._carrier, self._bound, self._decided = state

    def __call__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        # Not onto the current one: a forked worker has that of the request which needed it first.
        context = variable.set(propagate.extract(self._carrier, Context()))
        holder, _ = correlation.open_holder(self._bound)
        decision = decided.set(self._decided)
        try:
            return function(*args, **kwargs)
        finally:
            decided.reset(decision)
            correlation.close_holder(holder)
            detach(context)


def _undecided(run: Callable[[], None]) -> None:
    """Runs a forked process, which has all of the context: what is decided is of the request alone."""
    decided.set(None)
    run()


class _Run:
    """The `run` of a process, with what was current where it was started; goes as text with one that is not forked."""

    __slots__ = ("_along", "_process")

    def __init__(self, along: Callable[..., Any], process: Any) -> None:
        self._along = along
        self._process = process

    def __getstate__(self) -> tuple[Callable[..., Any], Any]:
        return self._along, self._process

    def __setstate__(self, state: tuple[Callable[..., Any], Any]) -> None:
        self._along, self._process = state

    def __call__(self) -> None:
        vars(self._process).pop("run", None)
        self._along(self._process.run)


def sent(decision: int | None = None) -> Sent | None:
    """What the present context has to go along into another process; None where it has nothing."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    bound = correlation.bound_values()
    return Sent(carrier, bound, decision) if carrier or bound or decision is not None else None


def carried() -> Carried | None:
    """What the present context has to go along; None where it has nothing."""
    context, holder, bound = variable.get(), correlation.to_share(), decided.get()
    return Carried(context, holder, bound) if context or holder is not None or bound is not None else None


def _of_threads() -> Undo:
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        along = _for_thread(self)
        if along is None:
            original(self)
            return
        run, own = self.run, vars(self).get("run")

        def run_with_context() -> None:
            restore()
            along(run)

        def restore() -> None:
            if own is None:
                vars(self).pop("run", None)
            else:
                vars(self)["run"] = own

        vars(self)["run"] = run_with_context
        try:
            original(self)
        except BaseException:
            restore()
            raise

    return replace(threading.Thread, "start", start)


@guard.guard("the context of a thread")
def _for_thread(thread: threading.Thread) -> Carried | None:
    along = carried()
    return along if along is not None and _is_the_applications(thread, threading.Thread.run) else None


def _is_the_applications(started: Any, usual: Any) -> bool:
    """Whether a thread or process runs code of the application, and none of a library, of a pool, or of otelkit.

    `usual` is the `run` that calls a target.
    """
    work: Any = type(started).run
    if isinstance(started, threading.Timer):
        work = started.function
    elif work is usual:
        work = getattr(started, "_target", None)  # no public name, but this one since Python 2
    while hasattr(work, "func"):
        work = work.func  # functools.partial
    code = getattr(work, "__code__", None)
    return code is not None and in_application(code.co_filename)


def _of_processes() -> Undo:
    import multiprocessing
    from multiprocessing.process import BaseProcess

    original = BaseProcess.start
    forks = getattr(multiprocessing.context, "ForkProcess", ())  # Windows has none

    @guard.guard("the context of a process")
    def for_process(process: BaseProcess) -> Callable[..., Any] | None:
        # It may outlive the request by far: that nothing is recorded below an excluded URL does not hold for it.
        forked = isinstance(process, forks) or (
            isinstance(process, multiprocessing.Process) and multiprocessing.get_start_method() == "fork"
        )
        if forked:
            return _undecided if decided.get() is not None else None
        return sent() if _is_the_applications(process, BaseProcess.run) else None

    def start(self: BaseProcess) -> None:
        along = for_process(self)
        if along is None or "run" in vars(self):
            original(self)
            return
        vars(self)["run"] = _Run(along, self)
        try:
            original(self)
        finally:
            vars(self).pop("run", None)

    return replace(BaseProcess, "start", start)


def _of_thread_pools() -> Undo:
    from concurrent.futures.thread import ThreadPoolExecutor

    return _of_pools(ThreadPoolExecutor, carried)


def _of_process_pools() -> Undo:
    from concurrent.futures.process import ProcessPoolExecutor

    def always() -> Sent:
        # Also an empty one: the worker has the context that it was forked in.
        return sent(decided.get()) or Sent({}, {}, None)

    return _of_pools(ProcessPoolExecutor, always)


def _of_pools(pool: Any, take: Callable[[], Callable[..., Any] | None]) -> Undo:
    original = pool.submit
    guarded = guard.guard("the context of a pool's work")(take)

    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        along = guarded()
        found: Future[Any] = (
            original(self, fn, *args, **kwargs) if along is None else original(self, along, fn, *args, **kwargs)
        )
        return found

    return replace(pool, "submit", submit)
