"""The publishing of Celery tasks: a producer span around each message, and beat's ticks as roots above them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.context import with_span
from otelkit.engine.current import CurrentSpan
from otelkit.engine.seams import propagate
from otelkit.instrumentation.celery_running import attempt_of
from otelkit.instrumentation.celery_tasks import CARRIER, Counts
from otelkit.runtime import guard
from otelkit.signals import correlation

_MOST_UNCONFIRMED = 1000
_in_tick: ContextVar[bool] = ContextVar("otelkit_beat", default=False)


class Publishing:
    """A producer span around the sending of a task's message.

    `stamps` is whether messages get the time of publishing as AMQP's property too, where RabbitMQ finds it.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._spans: dict[str, Span] = {}
        self.stamps = False

    @guard.guard("the start of a task's publishing")
    def before(
        self,
        sender: str,
        body: Any,
        headers: dict[str, Any],
        routing_key: str | None = None,
        properties: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Begins the span and writes our header anew: a retried task carries that of its first message."""
        task = self._counts.task(sender, routing_key or "")
        span: Span = self._counts.tracer.begin(
            task.publish_name, SpanKind.PRODUCER, task.publish, {"messaging.message.id": headers["id"]}
        )
        carrier: dict[str, Any] = {}
        propagate.inject(carrier, with_span(span))
        now_s = time.time()
        header = headers[CARRIER] = {
            "context": carrier,
            "bound": dict(correlation.bound() or {}),
            "published": now_s,
        }
        if headers.get("retries"):
            earlier = _attempt_that_asks(headers["id"])
            if earlier is not None:
                header["attempt"] = earlier
        if _in_tick.get():
            header["beat"] = True
        if self.stamps and properties is not None:
            properties.setdefault("timestamp", int(now_s))
        if len(self._spans) >= _MOST_UNCONFIRMED:
            # There is no signal for a publishing that fails; the oldest open ones are those.
            lost = self._spans.pop(next(iter(self._spans)))
            lost.set_status(StatusCode.ERROR, "the message was not sent")
            lost.end()
        self._spans[headers["id"]] = span
        task.sent.add(1)

    @guard.guard("the end of a task's publishing")
    def after(self, sender: str, body: Any, headers: dict[str, Any] | None = None, **_: Any) -> None:
        """Ends the span: the broker has the message."""
        span = self._spans.pop((headers or {}).get("id", ""), None)
        if span is not None:
            span.end()

    def stamp(self) -> None:
        """From now on messages may go to RabbitMQ."""
        self.stamps = True


def _attempt_that_asks(task_id: str) -> str | None:
    """The traceparent of the attempt that runs here and asks for another; None for a message that somebody else sends
    with a number of retries.
    """
    attempt = attempt_of(task_id)
    if attempt is None:
        return None
    told = door.traceparent(attempt.span)
    return told.decode() if told is not None else None


def record_ticks(counts: Counts) -> Callable[[], None]:
    """Makes each entry that beat sends a root span; returns the undo.

    No signal tells of it, so that the method that sends an entry is wrapped: `celery.beat.Scheduler.apply_async`, which
    the schedulers of other packages call too.
    """
    from celery.beat import Scheduler

    cls: Any = Scheduler
    original = cls.apply_async
    kinds: dict[tuple[str, str], Shared] = {}

    def describe(entry: Any) -> Shared:
        key = (str(entry.name), str(entry.task))
        found = kinds.get(key)
        if found is None:
            found = kinds[key] = Shared({"celery.beat.entry": key[0], "celery.task.name": key[1]})
        return found

    @functools.wraps(original)
    def apply_async(scheduler: Any, entry: Any, *args: Any, **options: Any) -> Any:
        try:
            shared = describe(entry)
            name = f"beat {shared['celery.task.name']}"
        except Exception:  # noqa: BLE001 - an entry is sent whatever telemetry does
            guard.report("the start of a tick's telemetry")
            return original(scheduler, entry, *args, **options)
        token = _in_tick.set(True)
        try:
            with CurrentSpan(counts.tracer.begin, (name, SpanKind.INTERNAL, shared, None, Context())):
                return original(scheduler, entry, *args, **options)
        finally:
            _in_tick.reset(token)

    cls.apply_async = apply_async

    def undo() -> None:
        if cls.__dict__.get("apply_async") is apply_async:
            cls.apply_async = original

    return undo
