"""Rate, errors and durations by route or service: of what was asked of services, from the roll-ups a minute."""

from __future__ import annotations

from collections import Counter
from typing import Any

from otelkit.viewer.filter_sql import columns_condition
from otelkit.viewer.reading.asking import Cursor, Question, ms
from otelkit.viewer.reading.buckets import QUANTILES, percentile_ms
from otelkit.viewer.reading.window import minutes, window_s

_COLUMNS = {"service": "service", "route": "route"}


def red(cursor: Cursor, question: Question, *, by_route: bool) -> dict[str, Any]:
    """A row a route or a service, the most asked first."""
    sql, values = columns_condition(question.filter, _COLUMNS, ("route", "service"), "requests")
    route = "route" if by_route else "NULL"
    rows = cursor.rows(
        f"SELECT service, {route} AS route, bucket, sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors,"
        " max(last_ns) AS last_ns"
        f" FROM viewer.red WHERE minute >= ? AND minute <= ? AND {sql} GROUP BY ALL",
        [*minutes(question), *values],
    )
    groups: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["service"], row["route"]), []).append(row)
    span_s = window_s(cursor, question)
    found = [_row(service, route, parts, span_s) for (service, route), parts in groups.items()]
    found.sort(key=lambda row: (-row["requests"], row["service"], row["route"] or ""))
    return {"rows": found[: question.limit]}


def _row(service: str, route: str | None, parts: list[dict[str, Any]], span_s: int) -> dict[str, Any]:
    requests, errors = sum(part["requests"] for part in parts), sum(part["errors"] for part in parts)
    counts: Counter[int] = Counter()
    for part in parts:
        counts[part["bucket"]] += part["requests"]
    return {
        "service": service,
        "route": route,
        "requests": requests,
        "rate": round(requests / span_s, 4),
        "errors": errors,
        "error_ratio": round(errors / requests, 4),
        **{name: percentile_ms(counts, quantile) for name, quantile in QUANTILES.items()},
        "last_ms": ms(max(part["last_ns"] for part in parts)),
    }
