"""What the peers send, counted: one module a wire format.

Each has a `COUNTERS`: by the last part of a path, a function that takes a body and counts its records by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

KINDS = ("spans", "logs", "points")

Counts = dict[str, Counter[str]]
"""By kind: names of spans, where log records are from, names of metrics (each with its points)."""

Count = Callable[[bytes, Counts], None]
