"""The run of a Celery task, in the process that runs it: a consumer span, its wait in the queue, what became of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from time import perf_counter_ns
from typing import Any

from opentelemetry.trace import Span, SpanKind, StatusCode

from otelkit.config.settings import Settings
from otelkit.engine.context import detach, variable, with_span
from otelkit.instrumentation.celery_tasks import CARRIER, Counts, Origins, Task, carrier_in
from otelkit.runtime import guard
from otelkit.signals import correlation, exceptions


class Attempt:
    """A task that is running in this context; an eager retry runs within its first attempt, under the same id."""

    __slots__ = ("around", "began_ns", "context_token", "error", "holder_token", "span", "state", "task", "task_id")

    def __init__(self, span: Span, task: Task, task_id: str, context_token: Any, holder_token: Any) -> None:
        self.span = span
        self.task = task
        self.task_id = task_id
        self.context_token = context_token
        self.holder_token = holder_token
        self.state: str | None = None
        self.error: str | None = None
        self.around = _running.get()
        self.began_ns = 0


# Not an attribute of Celery's request, which it takes longer to find.
_running: ContextVar[Attempt | None] = ContextVar("otelkit_attempt", default=None)


def attempt_of(task_id: str) -> Attempt | None:
    """The attempt that a task is running here; None for a task that runs elsewhere."""
    found = _running.get()
    return found if found is not None and found.task_id == task_id else None


def of_run(task_id: str, retries: int | None, delivery: Mapping[str, Any] | None) -> dict[str, Any]:
    """The attributes that a run has of its own."""
    own: dict[str, Any] = {"messaging.message.id": task_id, "celery.task.retries": retries or 0}
    if delivery and delivery.get("redelivered"):
        own["celery.task.redelivered"] = True
    return own


class Running:
    """A consumer span around a task's run."""

    def __init__(self, counts: Counts, origins: Origins, settings: Settings) -> None:
        self._counts = counts
        self._origins = origins
        # The flight recorder tells of a killed child's open span; without it the worker's main process does.
        self._told_by_main = settings.recorder == "off"
        self._installed_in = os.getpid()

    def before(self, task_id: str, task: Any, **_: Any) -> None:
        """Begins the span and makes it current."""
        try:
            request = task.request
            carried = getattr(request, CARRIER, None)
            carrier = carried if isinstance(carried, dict) else carrier_in(request.headers)
            delivery = request.delivery_info
            known = self._counts.task(task.name, (delivery or {}).get("routing_key") or "")
            own = of_run(task_id, request.retries, delivery)
            wait_s = None
            if request.is_eager:
                context, links = variable.get(), None
            else:
                now_s = time.time()
                context, links = self._origins.of(carrier, now_s)
                published = carrier.get("published")
                if isinstance(published, (int, float)):
                    wait_s = own["celery.task.queue.duration"] = max(
                        0.0, now_s - max(float(published), _eta_s(request.eta))
                    )
            # What is bound around an eager task holds for it as well.
            bound: Mapping[str, Any] | None = correlation.bound() if request.is_eager else carrier.get("bound")
            holder_token, holder = correlation.open_holder(bound or {})
            span: Span = self._counts.tracer.begin(known.run_name, SpanKind.CONSUMER, known.run, own, context, links)
            holder.entry_span = span
            attempt = Attempt(span, known, task_id, variable.set(with_span(span, context)), holder_token)
            _running.set(attempt)
            known.active.add(1)
            if not request.is_eager:
                known.consumed.add(1)
                if wait_s is not None:
                    known.wait.record(wait_s)
            attempt.began_ns = perf_counter_ns()
        except Exception:  # noqa: BLE001 - a task runs whatever telemetry does
            guard.report("the start of a task's telemetry")

    @guard.guard("the record of a retried task")
    def retried(self, request: Any, reason: Any, **_: Any) -> None:
        """The attempt asked for another."""
        attempt = attempt_of(request.id)
        if attempt is None:
            return
        name = cause_of(reason)
        attempt.state = "RETRY"
        attempt.span.add_event("retry", {"error.type": name})
        self._counts.retries.add(1, {**attempt.task.labels, "error.type": name})

    @guard.guard("the record of a failed task")
    def failed(self, task_id: str, exception: BaseException, **_: Any) -> None:
        """The task failed for good."""
        attempt = attempt_of(task_id)
        if attempt is not None:
            self._fail(attempt, exception)

    def _fail(self, attempt: Attempt, error: BaseException) -> None:
        attempt.state = "FAILURE"
        attempt.error = exceptions.type_name(error)
        exceptions.record(attempt.span, error)
        self._counts.failures.add(1, {**attempt.task.labels, "error.type": attempt.error})

    def after(self, task_id: str, state: str | None = None, **_: Any) -> None:
        """Ends the span."""
        try:
            attempt = attempt_of(task_id)
            if attempt is None:
                return
            elapsed_ns = perf_counter_ns() - attempt.began_ns
            _running.set(attempt.around)
            attempt.task.active.add(-1)
            if state is None and attempt.state is None:
                if self._is_told_by_main():
                    detach(attempt.context_token)
                    correlation.close_holder(attempt.holder_token)
                    return
                error = sys.exc_info()[1]
                if error is not None and _is_failure(error):  # what no handler of Celery's takes
                    self._fail(attempt, error)
            outcome = attempt.state or state or "UNKNOWN"
            span = attempt.span
            if attempt.error is not None:
                span.set_status(StatusCode.ERROR, attempt.error)
            attempt.task.ended(outcome, attempt.error, elapsed_ns / 1e9, span)
            detach(attempt.context_token)
            span.end()
            correlation.close_holder(attempt.holder_token)
        except Exception:  # noqa: BLE001 - as above
            guard.report("the end of a task's telemetry")

    def _is_told_by_main(self) -> bool:
        """Whether the worker's main process writes this run's span, since the pool is killing this one: a child that
        is killed may or may not get as far as here, and one of the two has to do it.
        """
        if not self._told_by_main or os.getpid() == self._installed_in:
            return False
        from billiard.process import current_process

        return bool(current_process().daemon)


def _is_failure(error: BaseException) -> bool:
    """Whether a task failed with it: not by Ctrl-C, sys.exit or a cancellation, but by gevent's time-out, which is no
    Exception either.
    """
    return isinstance(error, Exception) or type(error).__module__.partition(".")[0] == "gevent"


def cause_of(reason: Any) -> str:
    """The type of what made a task ask for another attempt."""
    cause = getattr(reason, "exc", None) or reason
    return exceptions.type_name(cause) if isinstance(cause, BaseException) else str(cause)[:64]


def _eta_s(eta: Any) -> float:
    """A task's ETA as seconds since the epoch, 0 where it has none or it cannot be read."""
    if eta is None:
        return 0.0
    from datetime import datetime

    if isinstance(eta, str):
        try:
            eta = datetime.fromisoformat(eta.replace("Z", "+00:00"))
        except ValueError:
            return 0.0
    return eta.timestamp() if isinstance(eta, datetime) else 0.0
