"""The adapters where OpenTelemetry's SDK leaves no public seam; tests run them against the lowest and the highest SDK
supported.

One so far: every SDK provider registers a fork hook that runs resource detectors in a thread pool inside the child
and overwrites an explicit `service.instance.id`. The hook calls the method `_handle_fork` of a living provider, so
overriding it switches it off; otelkit's own hook (runtime/fork.py) opens new providers in the child instead.
"""

from __future__ import annotations

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
