"""Celery: the publishing of a task, its run in the worker as one trace, its wait in the queue, and what became of it.

Everything hangs on Celery's public signals (connected strongly, `weak=False`). Context travels in the message's
headers and is written anew at each publishing: a retried task carries the headers of its first one. What is bound to
the request travels with it, in a header of our own, to our own broker only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.metrics import get_meter
from opentelemetry.trace import Span, SpanKind, StatusCode, get_tracer, set_span_in_context

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.engine.current import detach
from otelkit.engine.seams import propagate
from otelkit.instrumentation import imports, instruments
from otelkit.instrumentation.redis import silence_kombu
from otelkit.runtime import guard, lifecycle
from otelkit.signals import correlation, exceptions

CARRIER = "otelkit"
"""The message header that holds the trace context, what is bound, and the time of publishing (seconds since the
epoch).
"""
_RECYCLED_CHILD_S = 1.0
"""How long a pool child that ends may hold its slot for sending: with max_tasks_per_child=1 each task pays it.

A collector that answers takes some milliseconds of it. What is not sent by then is lost, and counted: a child has
nowhere else to leave it.
"""

_MOST_UNCONFIRMED = 1000


def install(settings: Settings) -> Callable[[], None]:
    """Records the publishing and the running of every app's tasks; returns the undo."""
    from celery import signals

    publishing, running = _Publishing(), _Running()
    receivers: list[tuple[Any, Callable[..., None]]] = [
        (signals.before_task_publish, publishing.before),
        (signals.after_task_publish, publishing.after),
        (signals.task_prerun, running.before),
        (signals.task_postrun, running.after),
        (signals.task_retry, running.retried),
        (signals.task_failure, running.failed),
        (signals.worker_process_shutdown, _child_ends),
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


def _child_ends(**_: Any) -> None:
    """Children of a prefork pool never run atexit: this is their last word before `os._exit`."""
    lifecycle.end_of_process(_RECYCLED_CHILD_S)


class _Publishing:
    """A producer span around the sending of a task's message."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.celery")
        self._tracer = get_tracer("otelkit.celery")
        self._sent = instruments.counter(meter, semconv.MESSAGING_SENT)
        self._spans: dict[str, Span] = {}

    @guard.guard("the start of a task's publishing")
    def before(self, sender: str, body: Any, headers: dict[str, Any], routing_key: str | None = None, **_: Any) -> None:
        labels = {
            "messaging.system": "celery",
            "messaging.operation.name": "publish",
            "messaging.destination.name": routing_key or "",
            "celery.task.name": sender,
        }
        span = self._tracer.start_span(
            f"publish {sender}",
            kind=SpanKind.PRODUCER,
            attributes={
                **labels,
                "messaging.operation.type": "send",
                "messaging.message.id": headers["id"],
            },
        )
        carrier: dict[str, Any] = {}
        propagate.inject(carrier, set_span_in_context(span))
        headers[CARRIER] = {
            "context": carrier,
            "bound": dict(correlation.bound()),
            "published": time.time(),
        }
        if len(self._spans) >= _MOST_UNCONFIRMED:
            # There is no signal for a publishing that fails; the oldest open ones are those.
            lost = self._spans.pop(next(iter(self._spans)))
            lost.set_status(StatusCode.ERROR, "the message was not sent")
            lost.end()
        self._spans[headers["id"]] = span
        self._sent.add(1, labels)

    @guard.guard("the end of a task's publishing")
    def after(self, sender: str, body: Any, headers: dict[str, Any] | None = None, **_: Any) -> None:
        span = self._spans.pop((headers or {}).get("id", ""), None)
        if span is not None:
            span.end()


class _Attempt:
    """A task that is running in this process."""

    __slots__ = ("context_token", "error", "holder_token", "labels", "span", "started", "state")

    def __init__(self, span: Span, labels: dict[str, str], context_token: Any, holder_token: Any) -> None:
        self.span = span
        self.labels = labels
        self.context_token = context_token
        self.holder_token = holder_token
        self.started = time.perf_counter()
        self.state: str | None = None
        self.error: str | None = None


class _Running:
    """A consumer span around a task's run."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.celery")
        self._tracer = get_tracer("otelkit.celery")
        self._duration = instruments.histogram(meter, semconv.MESSAGING_PROCESS_DURATION)
        self._wait = instruments.histogram(meter, semconv.CELERY_TASK_QUEUE_DURATION)
        self._active = instruments.up_down_counter(meter, semconv.CELERY_TASK_ACTIVE)
        self._consumed = instruments.counter(meter, semconv.MESSAGING_CONSUMED)
        self._retries = instruments.counter(meter, semconv.CELERY_TASK_RETRIES)
        self._failures = instruments.counter(meter, semconv.CELERY_TASK_FAILURES)
        self._attempts: dict[str, _Attempt] = {}

    @guard.guard("the start of a task's telemetry")
    def before(self, task_id: str, task: Any, **_: Any) -> None:
        request = task.request
        carried = getattr(request, CARRIER, None)
        if carried is None:
            carried = (request.headers or {}).get(CARRIER)
        carrier = carried if isinstance(carried, dict) else {}
        delivery = request.delivery_info or {}
        destination = delivery.get("routing_key") or ""
        labels = {"messaging.destination.name": destination, "celery.task.name": task.name}
        context = propagate.extract(carrier.get("context") or {}, context_api.get_current())
        attributes: dict[str, Any] = {
            **labels,
            "messaging.system": "celery",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.message.id": task_id,
            "celery.task.retries": request.retries or 0,
        }
        bound = carrier.get("bound") or {}
        holder_token = correlation.open_holder(bound)
        span = self._tracer.start_span(
            f"process {task.name}", context=context, kind=SpanKind.CONSUMER, attributes=attributes
        )
        correlation.holder().entry_span = span
        context_token = context_api.attach(set_span_in_context(span, context))
        attempt = self._attempts[task_id] = _Attempt(span, labels, context_token, holder_token)
        self._active.add(1, labels)
        if not request.is_eager:
            self._consumed.add(1, self._messaging(labels, "process"))
            published = carrier.get("published")
            if isinstance(published, (int, float)):
                wait_s = max(0.0, time.time() - max(float(published), _eta_s(request.eta)))
                span.set_attribute("celery.task.queue.duration", wait_s)
                self._wait.record(wait_s, labels)
        attempt.started = time.perf_counter()

    @staticmethod
    def _messaging(labels: dict[str, str], operation: str) -> dict[str, str]:
        return {**labels, "messaging.system": "celery", "messaging.operation.name": operation}

    @guard.guard("the record of a retried task")
    def retried(self, request: Any, reason: Any, **_: Any) -> None:
        attempt = self._attempts.get(request.id)
        if attempt is None:
            return
        cause = getattr(reason, "exc", None) or reason
        name = exceptions.type_name(cause) if isinstance(cause, BaseException) else str(cause)[:64]
        attempt.state = "RETRY"
        attempt.span.add_event("retry", {"error.type": name})
        self._retries.add(1, {**attempt.labels, "error.type": name})

    @guard.guard("the record of a failed task")
    def failed(self, task_id: str, exception: BaseException, **_: Any) -> None:
        attempt = self._attempts.get(task_id)
        if attempt is None:
            return
        attempt.state = "FAILURE"
        attempt.error = exceptions.type_name(exception)
        exceptions.record(attempt.span, exception)
        self._failures.add(1, {**attempt.labels, "error.type": attempt.error})

    @guard.guard("the end of a task's telemetry")
    def after(self, task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
        attempt = self._attempts.pop(task_id, None)
        if attempt is None:
            return
        elapsed = time.perf_counter() - attempt.started
        outcome = attempt.state or state or "UNKNOWN"
        attempt.span.set_attribute("celery.task.state", outcome)
        labels = {**self._messaging(attempt.labels, "process"), "celery.task.state": outcome}
        if attempt.error is not None:
            labels["error.type"] = attempt.error
            attempt.span.set_status(StatusCode.ERROR, attempt.error)
        self._active.add(-1, attempt.labels)
        self._duration.record(elapsed, labels, set_span_in_context(attempt.span))
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
