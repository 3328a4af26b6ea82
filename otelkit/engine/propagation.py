"""How context crosses processes: the propagators that OTEL_PROPAGATORS names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator

from otelkit.errors import ConfigurationError

_PACKAGES = {"b3": "b3", "b3multi": "b3", "jaeger": "jaeger"}


def propagator(names: Sequence[str]) -> TextMapPropagator:
    """All the named propagators as one.

    Raises ConfigurationError, naming the package, for one that is not installed.
    """
    found: list[TextMapPropagator] = []
    for name in names:
        if name == "none":
            continue
        entries = list(entry_points(group="opentelemetry_propagator", name=name))
        if not entries:
            package = f"opentelemetry-propagator-{_PACKAGES.get(name, name)}"
            raise ConfigurationError(
                f"OTEL_PROPAGATORS: {name!r} needs the package {package}; install it or leave it out"
            )
        found.append(entries[0].load()())
    return CompositePropagator(found)
