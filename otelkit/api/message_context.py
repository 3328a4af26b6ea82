"""Context that travels in a message of the application's own: an entry of a Redis stream, a JSON text over Pub/Sub.

Neither has headers: the application puts the context among the fields where it sends,
`client.xadd("orders", with_context({"order": 17}))`, and takes it out where it processes them,
`with process("orders", fields):`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind

from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.context import variable
from otelkit.engine.current import CurrentSpan
from otelkit.engine.seams import propagate
from otelkit.runtime import guard


def with_context(fields: Mapping[Any, Any]) -> dict[Any, Any]:
    """A copy of a message's fields with the current trace's context among them: `traceparent`, and what else
    OTEL_PROPAGATORS carries. Never raises; without a trace, and where telemetry is off, nothing is added.
    """
    found = dict(fields)
    carrier: dict[str, str] = {}
    with guard.guarded("the context of a message"):
        propagate.inject(carrier)
    return {**found, **carrier}


def process(name: str, fields: Mapping[Any, Any]) -> CurrentSpan:
    """A consumer span around the processing of a message: `with process("orders", fields):`.

    `name` is the stream's or the channel's, and is recorded: give none that holds an id. The span continues the trace
    that sent the message; where a span is current already, it is that one's child and linked to the sender's. An
    exception that leaves the block marks the span as failed, is recorded once, and passes on.
    """
    return CurrentSpan(_start, (name, fields))


def _start(name: str, fields: Mapping[Any, Any]) -> Span:
    current = door.parent_to_record()
    sender = _sender(fields)
    links = None
    context = None
    if current is None:
        context = sender
    elif sender is not None:
        links = [Link(trace.get_current_span(sender).get_span_context())]
    shared = Shared(
        {
            "messaging.system": "redis",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": name,
        }
    )
    begun: Span = door.tracer("otelkit.redis").begin(
        f"process {name}", SpanKind.CONSUMER, shared, context=context, links=links
    )
    return begun


@guard.guard("the context of a message")
def _sender(fields: Mapping[Any, Any]) -> Context | None:
    """The context that a message carries; redis-py returns bytes unless it is told to decode."""
    names = propagate.get_global_textmap().fields
    carrier = {name: _text(value) for key, value in fields.items() if (name := _text(key)) in names}
    if not carrier:
        return None
    found = propagate.extract(carrier, variable.get())
    return found if trace.get_current_span(found).get_span_context().is_valid else None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
