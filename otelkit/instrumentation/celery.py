"""Celery: the publishing of a task, its run in the worker as one trace, its wait in the queue, and what became of it.

Everything hangs on Celery's public signals (connected strongly, `weak=False`). Context travels in the message's
headers and is written anew at each publishing: a retried task carries the headers of its first one. What is bound to
the request travels with it, in a header of our own, to our own broker only.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from opentelemetry.metrics import get_meter
from opentelemetry.trace import Span, SpanKind, StatusCode

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.context import detach, variable, with_span
from otelkit.engine.seams import propagate
from otelkit.instrumentation import imports, instruments
from otelkit.instrumentation.redis import silence_kombu
from otelkit.runtime import guard, lifecycle
from otelkit.signals import correlation, exceptions

CARRIER = "otelkit"
"""The message header that holds the trace context, what is bound, and the time of publishing (seconds since the
epoch).
"""
_RECYCLED_CHILD_S = 0.2
_WITHOUT_SPOOL_S = 1.0
"""How long a pool child that ends may hold its slot for sending: with max_tasks_per_child=1 each task pays it.

A collector that answers takes some milliseconds of it. What is not sent by then waits in the spool for a living process
of the service; without a spool it is lost, and counted.
"""

_MOST_UNCONFIRMED = 1000
_KEPT_TASKS = 1024


def install(settings: Settings) -> Callable[[], None]:
    """Records the publishing and the running of every app's tasks; returns the undo."""
    from celery import signals

    counts = _Counts()
    publishing, running = _Publishing(counts), _Running(counts)
    receivers: list[tuple[Any, Callable[..., None]]] = [
        (signals.before_task_publish, publishing.before),
        (signals.after_task_publish, publishing.after),
        (signals.task_prerun, running.before),
        (signals.task_postrun, running.after),
        (signals.task_retry, running.retried),
        (signals.task_failure, running.failed),
        (signals.worker_process_shutdown, functools.partial(_child_ends, settings)),
    ]
    for signal, receiver in receivers:
        signal.connect(receiver, weak=False)
    restore: list[Callable[[], None]] = []
    # Registered here: the Redis transport's import is what imports redis, where no connection was made before.
    imports.when_imported("kombu.transport.redis", lambda: restore.append(silence_kombu()))

    def undo() -> None:
        for signal, receiver in receivers:
            signal.disconnect(receiver)
        for step in restore:
            step()

    return undo


def _child_ends(settings: Settings, **_: Any) -> None:
    """Children of a prefork pool never run atexit: this is their last word before `os._exit`."""
    lifecycle.end_of_process(_RECYCLED_CHILD_S if settings.spool != "off" else _WITHOUT_SPOOL_S)


class _Task:
    """What all messages and runs of one task over one queue have in common."""

    __slots__ = ("active", "consumed", "labels", "publish", "publish_name", "run", "run_name", "sent", "wait")

    def __init__(self, name: str, destination: str, counts: _Counts) -> None:
        self.labels = {"messaging.destination.name": destination, "celery.task.name": name}
        sent = {**self.labels, "messaging.system": "celery", "messaging.operation.name": "publish"}
        consumed = {**self.labels, "messaging.system": "celery", "messaging.operation.name": "process"}
        self.publish_name = f"publish {name}"
        self.publish = Shared({**sent, "messaging.operation.type": "send"})
        self.run_name = f"process {name}"
        self.run = Shared({**consumed, "messaging.operation.type": "process"})
        self.sent = door.adds(counts.sent, sent)
        self.consumed = door.adds(counts.consumed, consumed)
        self.active = door.adds(counts.active, self.labels)
        self.wait = door.records(counts.wait, self.labels)


class _Counts:
    """The instruments, and the tasks that are known."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.celery")
        self.tracer = door.tracer("otelkit.celery")
        self.sent = instruments.counter(meter, semconv.MESSAGING_SENT)
        self.duration = instruments.histogram(meter, semconv.MESSAGING_PROCESS_DURATION)
        self.wait = instruments.histogram(meter, semconv.CELERY_TASK_QUEUE_DURATION)
        self.active = instruments.up_down_counter(meter, semconv.CELERY_TASK_ACTIVE)
        self.consumed = instruments.counter(meter, semconv.MESSAGING_CONSUMED)
        self.retries = instruments.counter(meter, semconv.CELERY_TASK_RETRIES)
        self.failures = instruments.counter(meter, semconv.CELERY_TASK_FAILURES)
        self._tasks: dict[tuple[str, str], _Task] = {}

    def task(self, name: str, destination: str) -> _Task:
        """What is known of a task over a queue."""
        found = self._tasks.get((name, destination))
        if found is None:
            if len(self._tasks) >= _KEPT_TASKS:
                self._tasks.clear()
            found = self._tasks[(name, destination)] = _Task(name, destination, self)
        return found


class _Publishing:
    """A producer span around the sending of a task's message."""

    def __init__(self, counts: _Counts) -> None:
        self._counts = counts
        self._spans: dict[str, Span] = {}

    @guard.guard("the start of a task's publishing")
    def before(self, sender: str, body: Any, headers: dict[str, Any], routing_key: str | None = None, **_: Any) -> None:
        task = self._counts.task(sender, routing_key or "")
        span: Span = self._counts.tracer.begin(
            task.publish_name, SpanKind.PRODUCER, task.publish, {"messaging.message.id": headers["id"]}
        )
        carrier: dict[str, Any] = {}
        propagate.inject(carrier, with_span(span))
        headers[CARRIER] = {
            "context": carrier,
            "bound": dict(correlation.bound() or {}),
            "published": time.time(),
        }
        if len(self._spans) >= _MOST_UNCONFIRMED:
            # There is no signal for a publishing that fails; the oldest open ones are those.
            lost = self._spans.pop(next(iter(self._spans)))
            lost.set_status(StatusCode.ERROR, "the message was not sent")
            lost.end()
        self._spans[headers["id"]] = span
        task.sent.add(1)

    @guard.guard("the end of a task's publishing")
    def after(self, sender: str, body: Any, headers: dict[str, Any] | None = None, **_: Any) -> None:
        span = self._spans.pop((headers or {}).get("id", ""), None)
        if span is not None:
            span.end()


class _Attempt:
    """A task that is running in this process."""

    __slots__ = ("began_ns", "context_token", "error", "holder_token", "span", "state", "task")

    def __init__(self, span: Span, task: _Task, context_token: Any, holder_token: Any) -> None:
        self.span = span
        self.task = task
        self.context_token = context_token
        self.holder_token = holder_token
        self.state: str | None = None
        self.error: str | None = None
        self.began_ns = 0


class _Running:
    """A consumer span around a task's run."""

    def __init__(self, counts: _Counts) -> None:
        self._counts = counts
        self._attempts: dict[str, _Attempt] = {}

    @guard.guard("the start of a task's telemetry")
    def before(self, task_id: str, task: Any, **_: Any) -> None:
        request = task.request
        carried = getattr(request, CARRIER, None)
        if carried is None:
            carried = (request.headers or {}).get(CARRIER)
        carrier = carried if isinstance(carried, dict) else {}
        known = self._counts.task(task.name, (request.delivery_info or {}).get("routing_key") or "")
        context = propagate.extract(carrier.get("context") or {}, variable.get())
        own: dict[str, Any] = {"messaging.message.id": task_id, "celery.task.retries": request.retries or 0}
        wait_s = None
        if not request.is_eager:
            published = carrier.get("published")
            if isinstance(published, (int, float)):
                wait_s = own["celery.task.queue.duration"] = max(
                    0.0, time.time() - max(float(published), _eta_s(request.eta))
                )
        holder_token, holder = correlation.open_holder(carrier.get("bound") or {})
        span: Span = self._counts.tracer.begin(known.run_name, SpanKind.CONSUMER, known.run, own, context)
        holder.entry_span = span
        attempt = _Attempt(span, known, variable.set(with_span(span, context)), holder_token)
        self._attempts[task_id] = attempt
        known.active.add(1)
        if not request.is_eager:
            known.consumed.add(1)
            if wait_s is not None:
                known.wait.record(wait_s)
        attempt.began_ns = perf_counter_ns()

    @guard.guard("the record of a retried task")
    def retried(self, request: Any, reason: Any, **_: Any) -> None:
        attempt = self._attempts.get(request.id)
        if attempt is None:
            return
        cause = getattr(reason, "exc", None) or reason
        name = exceptions.type_name(cause) if isinstance(cause, BaseException) else str(cause)[:64]
        attempt.state = "RETRY"
        attempt.span.add_event("retry", {"error.type": name})
        self._counts.retries.add(1, {**attempt.task.labels, "error.type": name})

    @guard.guard("the record of a failed task")
    def failed(self, task_id: str, exception: BaseException, **_: Any) -> None:
        attempt = self._attempts.get(task_id)
        if attempt is None:
            return
        attempt.state = "FAILURE"
        attempt.error = exceptions.type_name(exception)
        exceptions.record(attempt.span, exception)
        self._counts.failures.add(1, {**attempt.task.labels, "error.type": attempt.error})

    @guard.guard("the end of a task's telemetry")
    def after(self, task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
        attempt = self._attempts.pop(task_id, None)
        if attempt is None:
            return
        elapsed_ns = perf_counter_ns() - attempt.began_ns
        outcome = attempt.state or state or "UNKNOWN"
        attempt.span.set_attribute("celery.task.state", outcome)
        labels = {
            **attempt.task.labels,
            "messaging.system": "celery",
            "messaging.operation.name": "process",
            "celery.task.state": outcome,
        }
        if attempt.error is not None:
            labels["error.type"] = attempt.error
            attempt.span.set_status(StatusCode.ERROR, attempt.error)
        attempt.task.active.add(-1)
        self._counts.duration.record(elapsed_ns / 1e9, labels, with_span(attempt.span))
        detach(attempt.context_token)
        attempt.span.end()
        correlation.close_holder(attempt.holder_token)


def _eta_s(eta: Any) -> float:
    """A task's ETA as seconds since the epoch, 0 where it has none or it cannot be read."""
    from datetime import datetime

    if isinstance(eta, str):
        try:
            eta = datetime.fromisoformat(eta.replace("Z", "+00:00"))
        except ValueError:
            return 0.0
    return eta.timestamp() if isinstance(eta, datetime) else 0.0
