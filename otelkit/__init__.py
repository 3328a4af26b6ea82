"""One bootstrap call gives a Python service OpenTelemetry traces, metrics and logs.

import otelkit
otelkit.bootstrap("shop")
"""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from otelkit import testing
    from otelkit.api import message_context, metrics
    from otelkit.api.context import bind, unbind
    from otelkit.api.errors import exception
    from otelkit.api.events import event
    from otelkit.api.measures import Registration, count, distribution, gauge, observe
    from otelkit.api.spans import span, traced
    from otelkit.delivery.report import FlushReport
    from otelkit.errors import AlreadyConfigured, ConfigurationError, OtelkitError, UnsupportedLibrary
    from otelkit.telemetry import Telemetry
    from otelkit.wiring import bootstrap, flush, metrics_app, shutdown, status

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
    "message_context",
    "metrics",
    "metrics_app",
    "observe",
    "shutdown",
    "span",
    "status",
    "testing",
    "traced",
    "unbind",
]

_HOMES = {
    "api.context": ("bind", "unbind"),
    "api.errors": ("exception",),
    "api.events": ("event",),
    "api.measures": ("Registration", "count", "distribution", "gauge", "observe"),
    "api.spans": ("span", "traced"),
    "delivery.report": ("FlushReport",),
    "errors": ("AlreadyConfigured", "ConfigurationError", "OtelkitError", "UnsupportedLibrary"),
    "telemetry": ("Telemetry",),
    "wiring": ("bootstrap", "flush", "metrics_app", "shutdown", "status"),
}


def __getattr__(name: str) -> object:
    """Loads the API, all of it, at the first use of any of it.

    Not at import: every pytest run in an environment with otelkit loads its plugin, and with it this module. Not name
    by name: an import in a request's thread may meet a fork (runtime/fork.py).
    """
    if name not in __all__:
        raise AttributeError(f"module 'otelkit' has no attribute {name!r}")
    found: dict[str, object] = {
        "message_context": _importlib.import_module("otelkit.api.message_context"),
        "metrics": _importlib.import_module("otelkit.api.metrics"),
        "testing": _importlib.import_module("otelkit.testing"),
    }
    for home, names in _HOMES.items():
        module = _importlib.import_module(f"otelkit.{home}")
        found |= {each: getattr(module, each) for each in names}
    globals().update(found)
    return found[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
