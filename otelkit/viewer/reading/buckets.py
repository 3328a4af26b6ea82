"""Percentiles from the roll-ups' buckets of durations."""

from __future__ import annotations

import math
from collections.abc import Mapping

QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


def percentile_ms(counts: Mapping[int, int], quantile: float) -> float | None:
    """The duration that a share of the calls did not exceed, within 7 %; None of no calls."""
    rank = quantile * sum(counts.values())
    if not rank:
        return None
    passed = 0
    for bucket, count in sorted(counts.items()):
        passed += count
        if passed >= rank:
            return round(math.exp((bucket + 0.5) / 8) / 1000, 3)
    return None
