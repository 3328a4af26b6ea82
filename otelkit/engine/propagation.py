"""How context crosses processes: the propagators that OTEL_PROPAGATORS names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.metadata import EntryPoint, entry_points

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otelkit.engine.context import variable
from otelkit.signals import correlation

# Without a look at the entry points of every installed package, which takes milliseconds each time.
_BUILT_IN: dict[str, type[TextMapPropagator]] = {
    "tracecontext": TraceContextTextMapPropagator,
    "baggage": W3CBaggagePropagator,
}
_LONGEST_VALUE = 256
"""Of what somebody else may put onto every span and log record of a request, in characters."""
_PACKAGES = {"b3": "b3", "b3multi": "b3", "jaeger": "jaeger"}


class AllowedBaggage(W3CBaggagePropagator):
    """Baggage by lists of names; an empty one is none, and all of that direction passes, as OpenTelemetry has it.

    What comes in under a name of the list is bound to the request as well: on its spans, its log records and its tasks.
    What is bound under a name of the other list goes out as well.
    """

    def __init__(self, *, accepted: Collection[str], sent: Collection[str]) -> None:
        self._accepted = frozenset(accepted)
        self._sent = tuple(correlation.attribute_name(name) for name in sent)

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        if not self._accepted:
            return super().extract(carrier, context, getter)
        found = variable.get() if context is None else context
        came = {}
        for name, value in baggage.get_all(super().extract(carrier, Context(), getter)).items():
            if name in self._accepted:
                found = baggage.set_baggage(name, value, found)
                came[correlation.attribute_name(name)] = str(value)[:_LONGEST_VALUE]
        correlation.bind_if_open(came)
        return found

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        if self._sent:
            members = {**baggage.get_all(context), **correlation.bound_values()}
            outgoing = Context()
            for name in self._sent:
                if members.get(name) is not None:
                    outgoing = baggage.set_baggage(name, str(members[name]), outgoing)
            context = outgoing
        super().inject(carrier, context, setter)


def propagator(
    names: Sequence[str], *, baggage_in: Collection[str] = (), baggage_out: Collection[str] = ()
) -> TextMapPropagator:
    """All the named propagators as one; those that are not installed are left out (`missing` names them)."""
    found: list[TextMapPropagator] = []
    for name in names:
        if name == "baggage" and (baggage_in or baggage_out):
            found.append(AllowedBaggage(accepted=baggage_in, sent=baggage_out))
        elif name in _BUILT_IN:
            found.append(_BUILT_IN[name]())
        else:
            found += [entry.load()() for entry in _entries(name)]
    return CompositePropagator(found)


def missing(names: Sequence[str]) -> list[str]:
    """A sentence for each named propagator that is not installed, with the package that has it."""
    return [
        f"OTEL_PROPAGATORS: {name!r} needs the package opentelemetry-propagator-{_PACKAGES[name]};"
        " install it or leave it out"
        for name in names
        if name in _PACKAGES and not _entries(name)
    ]


def _entries(name: str) -> list[EntryPoint]:
    return list(entry_points(group="opentelemetry_propagator", name=name))
