"""How context crosses processes: the propagators that OTEL_PROPAGATORS names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator

_PACKAGES = {"b3": "b3", "b3multi": "b3", "jaeger": "jaeger"}


def propagator(names: Sequence[str]) -> TextMapPropagator:
    """All the named propagators as one; those that are not installed are left out (`missing` names them)."""
    entries = (entry for name in names for entry in entry_points(group="opentelemetry_propagator", name=name))
    return CompositePropagator([entry.load()() for entry in entries])


def missing(names: Sequence[str]) -> list[str]:
    """A sentence for each named propagator that is not installed, with the package that has it."""
    return [
        f"OTEL_PROPAGATORS: {name!r} needs the package opentelemetry-propagator-{_PACKAGES.get(name, name)};"
        " install it or leave it out"
        for name in names
        if name != "none" and not entry_points(group="opentelemetry_propagator", name=name)
    ]
