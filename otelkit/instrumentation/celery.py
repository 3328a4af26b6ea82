"""Celery: the publishing of a task, its run in the worker as one trace, its wait in the queue, and what became of it.

Everything hangs on Celery's public signals (connected strongly, `weak=False`), but for three methods that no signal
tells of: `celery.beat.Scheduler.apply_async`, `celery.worker.request.Request.on_failure` and `.reject`. Context travels
in the message's headers and is written anew at each publishing: a retried task carries the headers of its first one.
What is bound to the request travels with it, in a header of our own, to our own broker only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from otelkit.config.settings import Settings
from otelkit.instrumentation import imports
from otelkit.instrumentation.celery_publishing import Publishing, record_ticks
from otelkit.instrumentation.celery_running import Running
from otelkit.instrumentation.celery_tasks import Counts, Origins
from otelkit.instrumentation.celery_unfinished import Unfinished
from otelkit.instrumentation.redis import silence_kombu
from otelkit.runtime import guard, lifecycle

_RECYCLED_CHILD_S = 0.2
_WITHOUT_SPOOL_S = 1.0
"""How long a pool child that ends may hold its slot for sending: with max_tasks_per_child=1 each task pays it.

A collector that answers takes some milliseconds of it. What is not sent by then waits in the spool for a living process
of the service; without a spool it is lost, and counted.
"""


def install(settings: Settings) -> Callable[[], None]:
    """Records the publishing and the running of every app's tasks; returns the undo."""
    from celery import signals

    counts, origins = Counts(), Origins(settings)
    publishing, running = Publishing(counts), Running(counts, origins, settings)
    unfinished = Unfinished(counts, origins, settings)
    receivers: list[tuple[Any, Callable[..., None]]] = [
        (signals.before_task_publish, publishing.before),
        (signals.after_task_publish, publishing.after),
        (signals.task_prerun, running.before),
        (signals.task_postrun, running.after),
        (signals.task_retry, running.retried),
        (signals.task_failure, running.failed),
        (signals.task_revoked, unfinished.revoked),
        (signals.task_unknown, unfinished.unknown),
        (signals.task_rejected, unfinished.rejected),
        (signals.task_retry, unfinished.retried),
        (signals.task_failure, unfinished.failed),
        (signals.worker_process_shutdown, functools.partial(_child_ends, settings)),
    ]
    restore: list[Callable[[], None]] = []
    if settings.celery_monitor:
        receivers.append((signals.beat_init, functools.partial(_beat_begins, settings, restore)))
    for signal, receiver in receivers:
        signal.connect(receiver, weak=False)
    # Registered here: the Redis transport's import is what imports redis, where no connection was made before.
    imports.when_imported("kombu.transport.redis", lambda: restore.append(silence_kombu()))
    imports.when_imported("kombu.transport.pyamqp", publishing.stamp)
    imports.when_imported("celery.beat", lambda: restore.append(record_ticks(counts)))
    imports.when_imported("celery.worker.request", lambda: restore.append(unfinished.watch_requests()))

    def undo() -> None:
        for signal, receiver in receivers:
            signal.disconnect(receiver)
        for step in restore:
            step()

    return undo


def _beat_begins(settings: Settings, restore: list[Callable[[], None]], sender: Any, **_: Any) -> None:
    """Measures the broker in a thread of beat, of which there is one to a broker."""
    from otelkit.instrumentation.celery_monitor import Monitor

    with guard.guarded("the start of Celery's monitor"):
        management = settings.celery_management_endpoint
        monitor = Monitor(sender.app, interval_s=settings.metric_export_interval_s, management=management)
        monitor.start()
        restore.append(monitor.stop)


def _child_ends(settings: Settings, **_: Any) -> None:
    """Children of a prefork pool never run atexit: this is their last word before `os._exit`."""
    lifecycle.end_of_process(_RECYCLED_CHILD_S if settings.spool != "off" else _WITHOUT_SPOOL_S)
