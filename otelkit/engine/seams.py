"""The adapters where OpenTelemetry's SDK leaves no public seam; tests run them against the lowest and the highest SDK
supported.

Every SDK provider registers a fork hook that runs resource detectors in a thread pool inside the child
and overwrites an explicit `service.instance.id`. The hook calls the method `_handle_fork` of a living provider, so
overriding it switches it off; otelkit's own hook (runtime/fork.py) opens new providers in the child instead.

`opentelemetry.propagate` reads OTEL_PROPAGATORS when it is imported, and raises for a name that is not installed: a
wrong setting would keep the application from starting. Whoever needs it here takes it from this module.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from opentelemetry.sdk import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider


class ForklessTracerProvider(trace.TracerProvider):
    """The SDK's provider without its fork hook."""

    def _handle_fork(self) -> None:
        """otelkit's own hook does it."""


class ForklessMeterProvider(MeterProvider):
    """The SDK's provider without its fork hook."""

    def _handle_fork(self) -> None:
        """otelkit's own hook does it."""


class ForklessLoggerProvider(LoggerProvider):
    """The SDK's provider without its fork hook."""

    def _handle_fork(self) -> None:
        """otelkit's own hook does it."""


def _import_propagate() -> ModuleType:
    try:
        return importlib.import_module("opentelemetry.propagate")
    except ValueError:
        # What is wrong with the setting is told at bootstrap, which sets the propagators anew.
        wrong = os.environ.pop("OTEL_PROPAGATORS")
        try:
            return importlib.import_module("opentelemetry.propagate")
        finally:
            os.environ["OTEL_PROPAGATORS"] = wrong


propagate = _import_propagate()
"""The module `opentelemetry.propagate`."""
