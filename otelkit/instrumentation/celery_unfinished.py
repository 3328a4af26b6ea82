"""Celery tasks whose end their own process cannot tell of; the worker's main process writes their spans.

Messages that are not run: revoked, expired, of a task that nobody knows, not readable. Runs that were broken off: the
pool's process was killed, by a hard time limit, a revocation, the system.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import NonRecordingSpan, Span, SpanKind, StatusCode, get_current_span

from otelkit.config.settings import Settings
from otelkit.engine.context import detach, variable, with_span
from otelkit.instrumentation.celery_running import attempt_of, cause_of, of_run
from otelkit.instrumentation.celery_tasks import Counts, Origins, Task, carrier_in
from otelkit.runtime import guard
from otelkit.signals import correlation, exceptions

_INVALID = "celery.exceptions.InvalidTaskError"
_UNKNOWN_TASK = "_OTHER"
"""The label of tasks that are not registered: their names come from whoever writes to the broker."""


class Unfinished:
    """Receivers of the main process's signals, and the wrappers around what has none."""

    def __init__(self, counts: Counts, origins: Origins, settings: Settings) -> None:
        self._counts = counts
        self._origins = origins
        # The flight recorder has the open span of a killed child, and whoever reads it sends it.
        self._writes_lost = settings.recorder == "off"
        self._became: dict[str, tuple[str, BaseException | None]] = {}
        self._failing: str | None = None

    # -- messages that are not run

    @guard.guard("the record of a revoked task")
    def revoked(self, sender: Any, request: Any, terminated: bool = False, expired: bool = False, **_: Any) -> None:
        """A message is discarded; or a run was broken off, whose end follows."""
        if terminated:
            self._note(request.id, "REVOKED", None)
            return
        # A context of Celery's has the message's headers as attributes.
        self._discard(sender.name, vars(request), request.id, "expired" if expired else "revoked")

    @guard.guard("the record of an unknown task")
    def unknown(self, message: Any, name: str, id: str, exc: BaseException | None = None, **_: Any) -> None:
        """A message of a task that is not registered here."""
        headers = {**(message.headers or {}), "delivery_info": message.delivery_info}
        self._discard(name, headers, id, "unknown", "celery.exceptions.NotRegistered", _UNKNOWN_TASK)

    @guard.guard("the record of a rejected message")
    def rejected(self, message: Any, exc: BaseException | None = None, **_: Any) -> None:
        """A message that cannot be read as a task."""
        headers = {**(message.headers or {}), "delivery_info": message.delivery_info}
        name, error = str(headers.get("task") or "message"), exceptions.type_name(exc) if exc else _INVALID
        self._discard(name, headers, str(headers.get("id") or ""), "invalid", error, _UNKNOWN_TASK)

    def _discard(
        self,
        name: str,
        headers: Mapping[str, Any],
        task_id: str,
        reason: str,
        error: str | None = None,
        label: str | None = None,
    ) -> None:
        queue = (headers.get("delivery_info") or {}).get("routing_key") or ""
        task = self._counts.task(label or name, queue)
        with self._span(task, headers, task_id, time.time()) as span:
            if label is not None:
                span.update_name(f"process {name}")
                span.set_attribute("celery.task.name", name)
            span.set_attribute("celery.task.state", "FAILURE" if error is not None else "REVOKED")
            span.set_attribute("celery.task.discard.reason", reason)
            if error is not None:
                span.set_attribute("error.type", error)
                span.set_status(StatusCode.ERROR, error)
        task.consumed.add(1)
        self._counts.discarded.add(1, {**task.labels, "celery.task.discard.reason": reason})

    # -- runs that were broken off

    @guard.guard("the record of a failed task")
    def failed(self, task_id: str, exception: BaseException, **_: Any) -> None:
        """In the main process: the task failed with its process."""
        if self._failing == task_id and attempt_of(task_id) is None:
            self._note(task_id, "FAILURE", exception)

    @guard.guard("the record of a retried task")
    def retried(self, sender: Any, request: Any, reason: Any, **_: Any) -> None:
        """In the main process: Celery runs the task again, since its process was lost or its connection closed."""
        if sender.request.id is None or self._failing == request.id:
            self._note(request.id, "RETRY", getattr(reason, "exc", None) or reason)

    def _note(self, task_id: str, state: str, error: BaseException | None) -> None:
        if len(self._became) >= 1000:
            self._became.clear()  # what was announced, and whose process never ended
        self._became[task_id] = (state, error)

    def watch_requests(self) -> Callable[[], None]:
        """Wraps `Request.on_failure`, which is called when a run's process has ended, and `Request.reject`, which gives
        its message back to the broker, where no signal tells of either; returns the undo.
        """
        from celery.worker.request import Request

        cls: Any = Request
        on_failure, reject = cls.on_failure, cls.reject

        @functools.wraps(on_failure)
        def watched(request: Any, exc_info: Any, *args: Any, **options: Any) -> Any:
            self._failing = request.id
            try:
                return on_failure(request, exc_info, *args, **options)
            finally:
                self._failing = None
                self._broken_off(request, exc_info)

        @functools.wraps(reject)
        def rejecting(request: Any, requeue: bool = False) -> Any:
            if requeue and self._failing == request.id:
                self._became.setdefault(request.id, ("REJECTED", None))
            return reject(request, requeue)

        cls.on_failure, cls.reject = watched, rejecting

        def undo() -> None:
            if cls.__dict__.get("on_failure") is watched:
                cls.on_failure = on_failure
            if cls.__dict__.get("reject") is rejecting:
                cls.reject = reject

        return undo

    @guard.guard("the record of a lost task")
    def _broken_off(self, request: Any, exc_info: Any) -> None:
        state, error = self._became.pop(request.id, (None, None))
        if state is None:
            return
        from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError

        exc = exc_info.exception
        exc = getattr(exc, "exc", exc)
        if not isinstance(exc, (WorkerLostError, TimeLimitExceeded, Terminated, SystemExit, KeyboardInterrupt)):
            return  # a failure that the task's process has told of
        if request.worker_pid == os.getpid():
            return  # of a pool without processes: told of there
        self._write(request, state, error or (exc if state == "REJECTED" else None))

    def _write(self, request: Any, state: str, error: BaseException | None) -> None:
        headers = request.request_dict
        task = self._counts.task(request.type, (request.delivery_info or {}).get("routing_key") or "")
        now_s = time.time()
        began_s = request.time_start or now_s
        name = exceptions.type_name(error) if error is not None else None
        if state == "FAILURE":
            self._counts.failures.add(1, {**task.labels, "error.type": name or state})
        elif state == "RETRY":
            self._counts.retries.add(1, {**task.labels, "error.type": cause_of(error)})
        with self._span(task, headers, request.id, began_s, is_written=self._writes_lost) as span:
            if error is not None and state == "FAILURE":
                exceptions.record(span, error)
            if name is not None:
                span.set_attribute("error.type", name)
                span.set_status(StatusCode.ERROR, name)
            task.ended(state, name, max(0.0, now_s - began_s), span)

    @contextmanager
    def _span(
        self, task: Task, headers: Mapping[str, Any], task_id: str, began_s: float, *, is_written: bool = True
    ) -> Iterator[Span]:
        """The span of a message, from its headers, as the process that runs it would have begun it."""
        carrier = carrier_in(headers)
        context, links = self._origins.of(carrier, began_s)
        own = of_run(task_id, headers.get("retries"), headers.get("delivery_info"))
        holder_token, holder = correlation.open_holder(carrier.get("bound") or {})
        began_ns = int(began_s * 1e9)
        span: Span
        if is_written:
            span = self._counts.tracer.begin(task.run_name, SpanKind.CONSUMER, task.run, own, context, links, began_ns)
        else:  # in the publisher's place: a log record and an exemplar lead to the trace
            span = NonRecordingSpan(get_current_span(context).get_span_context())
        holder.entry_span = span
        token = variable.set(with_span(span, context))
        try:
            yield span
        finally:
            detach(token)
            span.end()
            correlation.close_holder(holder_token)
