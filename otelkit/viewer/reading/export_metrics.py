"""Points as the metrics of an OTLP/JSON request; what the store has made of them on the way in stays so.

An exponential histogram is an ordinary one, a summary has no quantiles, a number is a double, and no scope has a name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

POINTS = """
    SELECT r.attributes AS resource, '' AS scope, p.name, p.type, s.unit, s.monotonic, s.description, s.labels, p.delta,
        p.time_ns, p.start_ns, p.value, p.count, p.sum, p.bounds, p.counts, p.exemplars
    FROM viewer.points p
    JOIN (SELECT series, any_value(unit) AS unit, any_value(monotonic) AS monotonic, any_value(labels) AS labels,
        any_value(description) AS description, any_value(resource) AS resource FROM viewer.series GROUP BY series) s
    USING (series)
    LEFT JOIN (SELECT id, any_value(attributes) AS attributes FROM viewer.resources GROUP BY id) r ON r.id = s.resource
    WHERE {where} ORDER BY s.resource, p.name, p.type, p.delta, p.series, p.time_ns
"""
_METRIC = itemgetter("name", "type", "unit", "monotonic", "description", "delta")
_KINDS = {"exponential_histogram": "histogram"}
Pairs = Callable[[dict[str, Any]], list[dict[str, Any]]]


def metrics(rows: Sequence[dict[str, Any]], pairs: Pairs) -> list[dict[str, Any]]:
    """The metrics of one resource; `pairs` makes KeyValues of attributes."""
    found = []
    for (name, kind, unit, monotonic, description, delta), points in groupby(rows, _METRIC):
        kind = _KINDS.get(kind, kind)
        data: dict[str, Any] = {"dataPoints": [_point(row, kind, pairs) for row in points]}
        if kind in ("sum", "histogram"):
            data["aggregationTemporality"] = 1 if delta else 2
        if kind == "sum":
            data["isMonotonic"] = monotonic
        found.append({"name": name, "unit": unit, "description": description, kind: data})
    return found


def _point(row: dict[str, Any], kind: str, pairs: Pairs) -> dict[str, Any]:
    found: dict[str, Any] = {
        "attributes": pairs(json.loads(row["labels"])),
        "startTimeUnixNano": str(row["start_ns"]),
        "timeUnixNano": str(row["time_ns"]),
    }
    if kind in ("gauge", "sum"):
        found["asDouble"] = _double(row["value"])
    else:
        found["count"] = str(row["count"])
        if row["sum"] is not None:
            found["sum"] = _double(row["sum"])
    if kind == "histogram":
        found["explicitBounds"] = list(map(_double, row["bounds"] or ()))
        found["bucketCounts"] = list(map(str, row["counts"] or ()))
    if row["exemplars"]:
        found["exemplars"] = [_exemplar(each, pairs) for each in json.loads(row["exemplars"])]
    return found


def _exemplar(exemplar: dict[str, Any], pairs: Pairs) -> dict[str, Any]:
    found: dict[str, Any] = {"timeUnixNano": str(exemplar["time_ns"]), "filteredAttributes": pairs(exemplar["labels"])}
    if exemplar["value"] is not None:
        found["asDouble"] = _double(exemplar["value"])
    ids = {"traceId": exemplar["trace_id"], "spanId": exemplar["span_id"]}
    return {**found, **{key: value for key, value in ids.items() if value}}


def _double(value: float) -> float | str:
    """As JSON has it (https://protobuf.dev/programming-guides/json/)."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
