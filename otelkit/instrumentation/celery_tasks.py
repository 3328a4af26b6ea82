"""What publishing and running of Celery tasks share: the instruments, the known tasks, and where a run belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import get_meter
from opentelemetry.trace import Link, SpanContext, TraceFlags, get_current_span

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.context import SPAN_KEY, variable, with_span
from otelkit.engine.seams import propagate
from otelkit.instrumentation import instruments

CARRIER = "otelkit"
"""The message header that holds the trace context, what is bound, the time of publishing (seconds since the epoch), and
where they apply `attempt` (the traceparent of the attempt that asks for another) and `beat`.
"""

_KEPT_TASKS = 1024
_STATES = frozenset(("SUCCESS", "FAILURE", "RETRY", "REJECTED", "IGNORED", "REVOKED", "UNKNOWN"))
_PUBLISHER = {"celery.link": "publish"}
_ATTEMPT = {"celery.link": "attempt"}


class Task:
    """What all messages and runs of one task over one queue have in common."""

    __slots__ = (
        "_duration",
        "_outcomes",
        "active",
        "consumed",
        "labels",
        "publish",
        "publish_name",
        "run",
        "run_name",
        "sent",
        "wait",
    )

    def __init__(self, name: str, destination: str, counts: Counts) -> None:
        self._duration = counts.duration
        self._outcomes: dict[str, Outcome] = {}
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

    def ended(self, state: str, error: str | None, elapsed_s: float, span: Any) -> None:
        """Says on a run's span in which of Celery's states it ended, and measures it; `error` is the type of what it
        failed with.
        """
        if error is None:
            alike = self._outcomes.get(state) or self._outcome(state)
            door.extend(span, self.run, alike.run)
            alike.duration.record(elapsed_s, span)
        else:
            span.set_attribute("celery.task.state", state)
            self._duration.record(elapsed_s, {**self._ended(state), "error.type": error}, with_span(span))

    def _outcome(self, state: str) -> Outcome:
        shared = Shared({**self.run, "celery.task.state": state})
        found = Outcome(shared, door.records(self._duration, self._ended(state)))
        if state in _STATES:
            self._outcomes[state] = found
        return found

    def _ended(self, state: str) -> dict[str, Any]:
        return {
            **self.labels,
            "messaging.system": "celery",
            "messaging.operation.name": "process",
            "celery.task.state": state,
        }


class Outcome(NamedTuple):
    """The attributes of the spans of runs that ended alike, and the series of their durations."""

    run: Shared
    duration: door.Records


class Counts:
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
        self.discarded = instruments.counter(meter, semconv.CELERY_TASK_DISCARDED)
        self._tasks: dict[tuple[str, str], Task] = {}

    def task(self, name: str, destination: str) -> Task:
        """What is known of a task over a queue."""
        found = self._tasks.get((name, destination))
        if found is None:
            if len(self._tasks) >= _KEPT_TASKS:
                self._tasks.clear()
            found = self._tasks[(name, destination)] = Task(name, destination, self)
        return found


def carrier_in(headers: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Our header among a message's; empty where the caller is not recorded."""
    found = (headers or {}).get(CARRIER)
    return found if isinstance(found, dict) else {}


class Origins:
    """Decides whether a run continues its publisher's trace or begins one of its own with a link to it."""

    def __init__(self, settings: Settings) -> None:
        self._links = settings.celery_context == "link"
        self._link_after_s = settings.celery_link_after_s

    def of(self, carrier: Mapping[str, Any], now_s: float) -> tuple[Context, list[Link] | None]:
        """The context that a run begins in, and its links."""
        sent = carrier.get("context")
        context = variable.get()
        if sent:
            context = propagate.extract(sent, context)
        links: list[Link] | None = None
        if sent and self._apart(carrier, now_s):
            publisher = get_current_span(context).get_span_context()
            if publisher.is_valid:
                links = [Link(publisher, _PUBLISHER)]
                context = Context({key: value for key, value in context.items() if key != SPAN_KEY})
        attempt = _span_context(carrier["attempt"]) if "attempt" in carrier else None
        if attempt is not None:
            links = [*(links or ()), Link(attempt, _ATTEMPT)]
        return context, links

    def _apart(self, carrier: Mapping[str, Any], now_s: float) -> bool:
        if self._links or carrier.get("beat"):
            return True
        published_s = carrier.get("published")
        return (
            bool(self._link_after_s)
            and isinstance(published_s, (int, float))
            and (now_s - published_s > self._link_after_s)
        )


def _span_context(traceparent: object) -> SpanContext | None:
    if not isinstance(traceparent, str):
        return None
    try:
        _, trace_id, span_id, flags = traceparent.split("-")
        return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
    except ValueError:
        return None
