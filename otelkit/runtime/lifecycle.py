"""How processes end, and what otelkit hooks for it; one row a kind of process.

| process | how it ends | what we hook |
|---|---|---|
| script, CLI | interpreter exit | atexit |
| script, exception at top level | interpreter exit with code 1 | atexit |
| script, sys.exit in a thread | that thread alone ends | atexit of the process |
| script, threads that outlast the main one | interpreter exit waits for them | atexit |
| script, asyncio | the loop is closed first, over cancelled tasks or pending ones | atexit |
| script, SIGTERM that nobody handles | killed by the signal, no atexit | SIGTERM |
| script, SIGINT | KeyboardInterrupt, interpreter exit | atexit |
| any, os._exit | at once, no atexit | nothing (2) |
| any, SIGKILL | at once | nothing (2) |
| uvicorn | restores the handlers and raises SIGTERM again | SIGTERM |
| uvicorn --workers, gunicorn --preload | as uvicorn, our handler too late or reset | the end of the ASGI lifespan (1) |
| uvicorn --reload | the old process as those of --workers | the end of the ASGI lifespan (1) |
| gunicorn with uvicorn's worker | as uvicorn | SIGTERM |
| gunicorn with its own worker | handles SIGTERM, interpreter exit | atexit |
| gunicorn, SIGHUP | the old workers as by SIGTERM | as by SIGTERM |
| gunicorn, worker time-out | SIGABRT, after a second SIGKILL | nothing (2) |
| hypercorn | its workers are spawned, and end as multiprocessing children | multiprocessing's finalizers |
| uWSGI, ended gracefully | interpreter exit in each worker, at SIGTERM by a setting (3) | atexit |
| Celery main | warm shutdown, interpreter exit | atexit |
| Celery pool child | os._exit, no atexit | worker_process_shutdown signal |
| Celery pool child, hard time limit | killed by the pool | nothing (2) |
| multiprocessing child | os._exit, no atexit | multiprocessing's finalizers |

(1) What the server logs after that is lost with the process, and stands in its ledger's page as undelivered.
(2) What is in the spool is another process's to send, and the ledger's page tells what is lost. Why os._exit is not
patched: docs/decisions/0015-os-exit.md.
(3) docs/lifecycle.md says which.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from otelkit.runtime import guard

_shutdown: Callable[[float | None], object] | None = None
_flush: Callable[[], object] | None = None
_is_settled: Callable[[], bool] | None = None
_installed_in: int | None = None
_timeout_s = 0.0
_GRACE_S = 0.2
"""What SIGTERM may take beyond the setting: the count of what was left, after the last attempt to send it."""
OWN_WORK_S = 8.0
"""What the end may take beyond the setting where the process has no time on its processors, to encode its records and
to write them to the disk: they are nowhere else.
"""
_LOOK_AGAIN_S = 0.05


def install(
    shutdown: Callable[[float | None], object],
    flush: Callable[[], object],
    is_settled: Callable[[], bool],
    shutdown_timeout_s: float,
) -> None:
    """Calls `shutdown` (with a budget in seconds, None for the setting's, which is `shutdown_timeout_s`) at the end of
    the process, `flush` before it may end. `is_settled` says, without a lock, whether no record is in memory alone any
    more.
    """
    global _shutdown, _flush, _is_settled, _installed_in, _timeout_s
    _shutdown, _flush, _is_settled, _timeout_s = shutdown, flush, is_settled, shutdown_timeout_s
    if _installed_in is not None:
        return
    _installed_in = os.getpid()
    atexit.register(end_of_process)
    _install_sigterm()


def end_of_process(budget_s: float | None = None) -> None:
    """Sends what is there within the budget; for the hooks that run last in a process."""
    if _shutdown is not None:
        with guard.guarded("the shutdown of telemetry"):
            _shutdown(budget_s)


def flush() -> None:
    """Sends what is there; the process goes on."""
    if _flush is not None:
        with guard.guarded("the flush of telemetry"):
            _flush()


def _install_sigterm() -> None:
    """Only where nobody handles SIGTERM and in the main thread, the only one that may.

    The handler takes no lock: it has another thread do the work and waits with a deadline, since the signal may have
    interrupted this thread while it held one. Then the signal does what it would have done.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    thread = threading.Thread(target=end_of_process, name="otelkit-shutdown", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system has no room for one
        # What this thread was interrupted in may hold a lock that it would now wait for: the alarm ends that.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _timeout_s + OWN_WORK_S + _GRACE_S)
        end_of_process()
    else:
        last = time.monotonic() + _timeout_s + OWN_WORK_S
        thread.join(_timeout_s + _GRACE_S)
        while thread.is_alive() and time.monotonic() < last and not (_is_settled is None or _is_settled()):
            thread.join(_LOOK_AGAIN_S)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def before_the_signal_returns() -> None:
    """Sends what is there at the end of an ASGI server that handles SIGTERM and will raise it again, with no handler
    left.

    So uvicorn's workers do, whose handlers are there before the application is imported. In any other thread than the
    main one (a test client) no signal is on its way.
    """
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGTERM)
        if handler not in (_on_sigterm, signal.SIG_DFL, signal.SIG_IGN):
            flush()


def watch_multiprocessing() -> None:
    """Called when multiprocessing.util has been imported: its children end with os._exit after their finalizers.

    The finalizer is registered in each child, since a child begins by forgetting its parent's.
    """
    from multiprocessing import parent_process
    from multiprocessing.util import register_after_fork

    register_after_fork(_Finalizing, _Finalizing.register)
    if parent_process() is not None:  # telemetry starts in a child, a spawned one for example
        _Finalizing.register(None)


class _Finalizing:
    """What multiprocessing's after-fork registry holds on to."""

    @staticmethod
    def register(_: object) -> None:
        """In the child: ends telemetry before the child's os._exit."""
        from multiprocessing.util import Finalize

        Finalize(None, end_of_process, exitpriority=0)
