"""Telemetry in tests: captured spans, metrics and logs, and budgets for them.

The pytest plugin gives tests the fixture `telemetry` and the mark `@pytest.mark.telemetry(max_queries=3)`; elsewhere
`with otelkit.testing.capture() as telemetry:` gives the same.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otelkit.testing.capturing import Captured, capture
    from otelkit.testing.logs import CapturedLog, Logs
    from otelkit.testing.measured import Distribution
    from otelkit.testing.metrics import Metrics
    from otelkit.testing.repeated import Repeated
    from otelkit.testing.spans import CapturedSpan, Spans

__all__ = ["Captured", "CapturedLog", "CapturedSpan", "Distribution", "Logs", "Metrics", "Repeated", "Spans", "capture"]

_MODULES = {
    "Captured": "capturing",
    "CapturedLog": "logs",
    "CapturedSpan": "spans",
    "Distribution": "measured",
    "Logs": "logs",
    "Metrics": "metrics",
    "Repeated": "repeated",
    "Spans": "spans",
    "capture": "capturing",
}


def __getattr__(name: str) -> object:
    # At first use: `import otelkit` brings this module along, and a service has no use for the rest.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
