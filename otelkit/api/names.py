"""What an application's metric may be called."""

from __future__ import annotations

import re

from otelkit.semconv import RESERVED_PREFIXES

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")


def check_metric_name(name: str) -> None:
    """Raises ValueError that names the metric and the remedy unless the name is lower-case, dotted, free of `_total`
    and outside of the reserved prefixes."""
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise ValueError(
            f"metric name {name!r}: use lower-case letters, digits, underscores and dots, as in 'orders.placed'"
        )
    if name.endswith("_total"):
        raise ValueError(f"metric name {name!r}: leave `_total` away, Prometheus adds it to counters")
    if name.startswith(RESERVED_PREFIXES):
        prefix = name.partition(".")[0]
        raise ValueError(
            f"metric name {name!r}: `{prefix}.` is reserved for instrumentation; choose a name of your own domain"
        )
