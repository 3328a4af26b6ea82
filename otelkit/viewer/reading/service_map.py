"""The service map: who calls whom, how often, and how that went, from the roll-ups a minute."""

from __future__ import annotations

from collections import Counter
from typing import Any

from otelkit.viewer.reading.asking import Cursor, Question
from otelkit.viewer.reading.buckets import percentile_ms
from otelkit.viewer.reading.window import minutes, window_s


class _Sum:
    def __init__(self) -> None:
        self.requests = self.errors = 0
        self.buckets: Counter[int] = Counter()

    def add(self, row: dict[str, Any]) -> None:
        self.requests += row["requests"]
        self.errors += row["errors"]
        self.buckets[row["bucket"]] += row["requests"]

    def shown(self, span_s: int) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "rate": round(self.requests / span_s, 4),
            "errors": self.errors,
            "error_ratio": round(self.errors / self.requests, 4) if self.requests else 0.0,
            "p95_ms": percentile_ms(self.buckets, 0.95),
        }


def service_map(cursor: Cursor, question: Question) -> dict[str, Any]:
    """Nodes and edges; the numbers of a service, and of an edge to it, are of what it was asked (as in red.py), others
    are of what was asked of them.
    """
    span = minutes(question)
    span_s = window_s(cursor, question)
    edges: dict[tuple[str, str], _Sum] = {}
    nodes: dict[str, tuple[str, str, _Sum]] = {}
    for row in cursor.rows(
        "SELECT source, source_type, target, target_type, bucket, sum(requests)::BIGINT AS requests,"
        " sum(errors)::BIGINT AS errors FROM viewer.edges WHERE minute >= ? AND minute <= ? GROUP BY ALL",
        span,
    ):
        source = _node(nodes, row["source"], row["source_type"])
        target = _node(nodes, row["target"], row["target_type"])
        edges.setdefault((source, target), _Sum()).add(row)
        if row["target_type"] != "service":
            nodes[target][2].add(row)
    for row in cursor.rows(
        "SELECT service, bucket, sum(requests)::BIGINT AS requests, sum(errors)::BIGINT AS errors FROM viewer.red"
        " WHERE minute >= ? AND minute <= ? GROUP BY ALL",
        span,
    ):
        nodes[_node(nodes, row["service"], "service")][2].add(row)
    return {
        "nodes": [{"id": key, "name": name, "type": kind, **found.shown(span_s)}
                  for key, (name, kind, found) in sorted(nodes.items())],
        "edges": [{"from": source, "to": target, **found.shown(span_s)}
                  for (source, target), found in sorted(edges.items())],
    }  # fmt: skip


def _node(nodes: dict[str, tuple[str, str, _Sum]], name: str, kind: str) -> str:
    key = name if kind == "service" else f"{kind}:{name}"
    nodes.setdefault(key, (name, kind, _Sum()))
    return key
