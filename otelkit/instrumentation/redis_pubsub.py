"""Redis Pub/Sub: a span a message, around its handler where it has one.

`PubSub.handle_message` is what all ways to receive pass. Waiting for messages is no work and makes no span; to publish
is a command as any other. A message has no headers: one that is a JSON text with the fields of
`otelkit.message_context.with_context` in it is linked to whoever published it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from opentelemetry.metrics import get_meter
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.context import detach, variable, with_span
from otelkit.instrumentation import instruments
from otelkit.instrumentation.redis_lookups import Prefixes
from otelkit.runtime import guard
from otelkit.signals import exceptions

# As `with_context` and every JSON library write it.
_SENDER_IN_JSON = re.compile(r'"traceparent"\s*:\s*"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"')
# The type of a message -> where its channel or pattern stands, which a handler was given for.
_MESSAGES = {"message": "channels", "pmessage": "patterns", "smessage": "shard_channels"}


class _Kind:
    """What all messages of one channel (or of all, where none is named) have in common."""

    __slots__ = ("consumed", "labels", "name", "shared")

    def __init__(self, owner: Messages, operation: str, destination: str | None) -> None:
        self.labels: dict[str, Any] = {"messaging.system": "redis", "messaging.operation.name": operation}
        self.name = operation
        if destination is not None:
            self.labels["messaging.destination.name"] = destination
            self.name = f"{operation} {destination}"
        self.shared = Shared({**self.labels, "messaging.operation.type": operation})
        self.consumed = door.adds(owner.consumed, self.labels)


class _Delivery:
    """A message whose handler runs; `token` is the context's before it."""

    __slots__ = ("began_ns", "kind", "span", "token")

    def __init__(self, kind: _Kind, span: Any, token: Any) -> None:
        self.kind = kind
        self.span = span
        self.token = token
        self.began_ns = perf_counter_ns()


class Messages:
    """The wrappers around `PubSub.handle_message`."""

    def __init__(self, settings: Settings) -> None:
        meter = get_meter("otelkit.redis")
        self._tracer = door.tracer("otelkit.redis")
        self.consumed = instruments.counter(meter, semconv.MESSAGING_CONSUMED)
        self._duration = instruments.histogram(meter, semconv.MESSAGING_PROCESS_DURATION)
        self._prefixes = Prefixes(settings.redis_prefixes) if settings.redis_prefixes else None
        self._kinds: dict[tuple[str, str | None], _Kind] = {}

    def sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the blocking method."""

        @functools.wraps(original)
        def handle_message(pubsub: Any, response: Any, *args: Any, **options: Any) -> Any:
            delivery = self._begin(pubsub, response)
            if delivery is None:
                return original(pubsub, response, *args, **options)
            try:
                result = original(pubsub, response, *args, **options)
            except BaseException as error:
                self._end(delivery, error)
                raise
            self._end(delivery, None)
            return result

        return handle_message

    def asynchronous(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the coroutine method."""

        @functools.wraps(original)
        async def handle_message(pubsub: Any, response: Any, *args: Any, **options: Any) -> Any:
            delivery = self._begin(pubsub, response)
            if delivery is None:
                return await original(pubsub, response, *args, **options)
            try:
                result = await original(pubsub, response, *args, **options)
            except BaseException as error:
                self._end(delivery, error)
                raise
            self._end(delivery, None)
            return result

        return handle_message

    @guard.guard("the start of a message's telemetry")
    def _begin(self, pubsub: Any, response: Any) -> _Delivery | None:
        """A message that is given to its handler; one that is returned to the application is told of at once."""
        if not isinstance(response, (list, tuple)) or len(response) < 3:
            return None
        told = response[0].decode("latin-1") if isinstance(response[0], bytes) else str(response[0])
        handlers = _MESSAGES.get(told)
        if handlers is None:  # of a subscription
            return None
        channel, data = response[-2], response[-1]
        sender = _sender_in(data)
        links = [Link(sender)] if sender is not None else None
        handled = getattr(pubsub, handlers).get(response[1]) is not None
        kind = self._kind("process" if handled else "receive", channel)
        kind.consumed.add(1)
        # Nobody's work yet, and in nobody's trace: a measurement alone, as of a command.
        if not handled and links is None and door.parent_to_record() is None:
            return None
        span = self._tracer.begin(kind.name, SpanKind.CONSUMER, kind.shared, links=links)
        if not handled:
            span.end()
            return None
        return _Delivery(kind, span, variable.set(with_span(span)))

    def _kind(self, operation: str, channel: Any) -> _Kind:
        destination = self._prefixes.of(channel) if self._prefixes is not None else None
        found = self._kinds.get((operation, destination))
        if found is None:
            found = self._kinds[operation, destination] = _Kind(self, operation, destination)
        return found

    @guard.guard("the end of a message's telemetry")
    def _end(self, delivery: _Delivery, error: BaseException | None) -> None:
        elapsed_ns = perf_counter_ns() - delivery.began_ns
        labels = delivery.kind.labels
        if error is not None:
            labels = {**labels, "error.type": exceptions.type_name(error)}
            if isinstance(error, Exception):
                exceptions.record(delivery.span, error)
        self._duration.record(elapsed_ns / 1e9, labels, with_span(delivery.span))
        detach(delivery.token)
        delivery.span.end()


def _sender_in(data: Any) -> SpanContext | None:
    """Who sent a message that is a JSON text with `with_context`'s fields in it; None of any other."""
    if isinstance(data, bytes):
        if b'"traceparent"' not in data:
            return None
        data = data.decode("utf-8", "replace")
    elif not isinstance(data, str) or '"traceparent"' not in data:
        return None
    found = _SENDER_IN_JSON.search(data)
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    sender = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return sender if sender.is_valid else None
