"""How context crosses processes: the propagators that OTEL_PROPAGATORS names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# Without a look at the entry points of every installed package, which takes milliseconds each time.
_BUILT_IN: dict[str, type[TextMapPropagator]] = {
    "tracecontext": TraceContextTextMapPropagator,
    "baggage": W3CBaggagePropagator,
}
_PACKAGES = {"b3": "b3", "b3multi": "b3", "jaeger": "jaeger"}


def propagator(names: Sequence[str]) -> TextMapPropagator:
    """All the named propagators as one; those that are not installed are left out (`missing` names them)."""
    found: list[TextMapPropagator] = []
    for name in names:
        if name in _BUILT_IN:
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
