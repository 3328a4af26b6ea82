"""Metrics: which there are, and one as series over time with percentiles, a heat map and exemplars."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from otelkit.viewer.filter import EVERYTHING, And, Compare, Filter, FilterError, Not, Or, Text
from otelkit.viewer.filter_sql import Condition, attribute_condition, columns_condition
from otelkit.viewer.reading.asking import Cursor, Question, ms
from otelkit.viewer.reading.over_time import Point, Series, histogram_over_time, numbers_over_time

_MOST_VALUES = 20
_MOST_POINTS = 200_000
_MOST_EXEMPLARS = 300
_MOST_SERIES = 50
_BASELINE_NS = 600_000_000_000
_STEPS = 240
_NICE_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)
_LIST = """
    SELECT name, arg_max(unit, n) AS unit, arg_max(type, n) AS type, arg_max(monotonic, n) AS monotonic,
        arg_max(description, n) AS description, list_sort(list(DISTINCT service)) AS services,
        list(DISTINCT labels) AS labels
    FROM (SELECT *, row_number() OVER (PARTITION BY name) AS n FROM viewer.series) WHERE n <= 500
    GROUP BY name ORDER BY name
"""
_POINTS = f"""
    SELECT series, time_ns, start_ns, delta, value, count, sum, bounds, counts FROM viewer.points
    WHERE name = ? AND time_ns >= ? AND time_ns <= ? AND series IN (SELECT unnest(?))
    ORDER BY series, time_ns DESC LIMIT {_MOST_POINTS}
"""
_EXEMPLARS = f"""
    SELECT series, exemplars FROM viewer.points
    WHERE name = ? AND time_ns >= ? AND time_ns <= ? AND exemplars IS NOT NULL AND series IN (SELECT unnest(?))
    ORDER BY time_ns DESC LIMIT {_MOST_EXEMPLARS}
"""


def metrics(cursor: Cursor) -> dict[str, Any]:
    """Every metric with the labels that it has."""
    last = {row["name"]: row["last"] for row in cursor.rows(
        "SELECT name, max(time_ns) AS last FROM viewer.points GROUP BY name")}  # fmt: skip
    return {
        "metrics": [
            {
                "name": row["name"],
                "unit": row["unit"],
                "type": row["type"],
                "monotonic": row["monotonic"],
                "description": row["description"],
                "services": row["services"],
                "labels": _labels(row["labels"]),
                "last_ms": ms(last.get(row["name"])),
            }
            for row in cursor.rows(_LIST)
        ]
    }


def _labels(encoded: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for each in encoded:
        for key, value in json.loads(each).items():
            values = found.setdefault(key, {})
            if len(values) < _MOST_VALUES:
                values[_text(value)] = None
    return {key: sorted(values) for key, values in sorted(found.items())}


def metric(
    cursor: Cursor, name: str, question: Question, *, group_by: Sequence[str], step_s: float
) -> dict[str, Any] | None:
    """A metric over time; None where there is none of this name.

    A sum that only grows is told as its rate a second, a histogram by how many values came in a second.
    """
    more, values = _condition(question.filter)
    about = cursor.rows(
        "SELECT series, any_value(unit) AS unit, any_value(type) AS type, any_value(monotonic) AS monotonic,"
        " any_value(service) AS service, any_value(labels) AS labels"
        f" FROM viewer.series WHERE name = ? AND {more} GROUP BY series",
        [name, *values],
    )
    if not about:
        if cursor.one("SELECT count(*) FROM viewer.series WHERE name = ?", [name])[0]:
            return {"name": name, "unit": "", "type": "gauge", "step_s": 1, "series": [], "exemplars": []}
        return None
    to_ns = min(question.to_ns, time.time_ns())
    from_ns = question.from_ns or to_ns - 3_600_000_000_000
    step_ns = int((step_s or _nice((to_ns - from_ns) / 1e9 / _STEPS)) * 1e9)
    labels = {row["series"]: _shown_labels(row, group_by) for row in about}
    ids = list(labels)
    rows = cursor.rows(_POINTS, [name, from_ns - _BASELINE_NS, to_ns, ids])
    groups: dict[tuple[tuple[str, str], ...], dict[int, list[Point]]] = {}
    for row in rows:
        points = groups.setdefault(labels[row["series"]], {}).setdefault(row["series"], [])
        points.append(Point(**{key: value for key, value in row.items() if key != "series"}))
    kind, monotonic = about[0]["type"], about[0]["monotonic"]
    span = (from_ns - from_ns % step_ns, to_ns, step_ns)
    answer: dict[str, Any] = {
        "name": name,
        "unit": about[0]["unit"],
        "type": kind,
        "step_s": step_ns / 1e9,
        "series": [],
        "exemplars": _exemplars(cursor, name, from_ns, to_ns, ids, labels),
    }
    histogram = kind in ("histogram", "exponential_histogram")
    for key, series in sorted(groups.items())[:_MOST_SERIES]:
        found = numbers_over_time(list(series.values()), span, _how(kind, monotonic))
        answer["series"].append({"labels": dict(key), "points": found})
    if histogram:
        every: list[Series] = [points for series in groups.values() for points in series.values()]
        answer["percentiles"], answer["heat"] = histogram_over_time(every, span)
    return answer


def _how(kind: str, monotonic: bool) -> str:
    if kind in ("histogram", "exponential_histogram"):
        return "count"
    if kind == "sum":
        return "rate" if monotonic else "sum"
    return "mean"


def _nice(seconds: float) -> int:
    return next((step for step in _NICE_S if step >= seconds), _NICE_S[-1])


def _shown_labels(row: dict[str, Any], group_by: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found = {"service": row["service"], **json.loads(row["labels"])}
    return tuple((key, _text(found.get(key, ""))) for key in group_by)


def _exemplars(
    cursor: Cursor, name: str, from_ns: int, to_ns: int, ids: list[int], labels: dict[int, Any]
) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in cursor.rows(_EXEMPLARS, [name, from_ns, to_ns, ids]):
        for each in json.loads(row["exemplars"]):
            if each["trace_id"] and each["value"] is not None:
                found[(each["trace_id"], each["span_id"], each["time_ns"])] = {
                    "time_ms": ms(each["time_ns"]),
                    "value": each["value"],
                    "trace_id": each["trace_id"],
                    "span_id": each["span_id"],
                    "labels": {**dict(labels[row["series"]]), **each["labels"]},
                }
    return list(found.values())[:_MOST_EXEMPLARS]


def _condition(found: Filter) -> Condition:
    """Of a filter on series: `service`, and any label."""
    if found == EVERYTHING:
        return "true", []
    if isinstance(found, (And, Or)):
        parts = [_condition(part) for part in found.parts]
        joined = (" AND " if isinstance(found, And) else " OR ").join(sql for sql, _ in parts)
        return f"({joined})", [value for _, values in parts for value in values]
    if isinstance(found, Not):
        sql, values = _condition(found.part)
        return f"(NOT coalesce({sql}, false))", values
    if isinstance(found, Text):
        raise FilterError("a metric's series are found by service and by labels, not by a text", 0)
    if found.operator == "!=":
        return _condition(Not(Compare(found.key, ":", found.value, found.at)))
    if found.key == "service":
        return columns_condition(found, {"service": "service"}, (), "series")
    return attribute_condition("labels", found)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
