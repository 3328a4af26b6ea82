"""One bootstrap call gives a Python service OpenTelemetry traces, metrics and logs.

import otelkit
otelkit.bootstrap("shop")
"""

from otelkit import testing
from otelkit.api import metrics
from otelkit.api.context import bind, unbind
from otelkit.api.errors import exception
from otelkit.api.events import event
from otelkit.api.measures import Registration, count, distribution, gauge, observe
from otelkit.api.spans import span, traced
from otelkit.delivery.report import FlushReport
from otelkit.errors import AlreadyConfigured, ConfigurationError, OtelkitError, UnsupportedLibrary
from otelkit.telemetry import Telemetry
from otelkit.wiring import bootstrap, flush, shutdown, status

__all__ = [
    "AlreadyConfigured",
    "ConfigurationError",
    "FlushReport",
    "OtelkitError",
    "Registration",
    "Telemetry",
    "UnsupportedLibrary",
    "bind",
    "bootstrap",
    "count",
    "distribution",
    "event",
    "exception",
    "flush",
    "gauge",
    "metrics",
    "observe",
    "shutdown",
    "span",
    "status",
    "testing",
    "traced",
    "unbind",
]
