"""The service map: who calls whom, how often, and how that went, from the roll-ups a minute."""

from __future__ import annotations

from collections import Counter
from typing import Any

from otelkit.viewer.reading.asking import Cursor, Question
from otelkit.viewer.reading.buckets import percentile_ms
from otelkit.viewer.rollups import MINUTE_NS


class _Sum:
    def __init__(self) -> None:
        self.requests = self.errors = 0
        self.buckets: Counter[int] = Counter()

    def add(self, row: dict[str, Any]) -> None:
        self.requests += row["requests"]
        self.errors += row["errors"]
        self.buckets[row["bucket"]] += row["requests"]

    def shown(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "p95_ms": percentile_ms(self.buckets, 0.95),
        }


def service_map(cursor: Cursor, question: Question) -> dict[str, Any]:
    """Nodes and edges; a service's numbers are of what it was asked, others' of what was asked of them."""
    span = [question.from_ns // MINUTE_NS, question.to_ns // MINUTE_NS]
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
        "nodes": [{"id": key, "name": name, "type": kind, **found.shown()}
                  for key, (name, kind, found) in sorted(nodes.items())],
        "edges": [{"from": source, "to": target, **found.shown()} for (source, target), found in sorted(edges.items())],
    }  # fmt: skip


def _node(nodes: dict[str, tuple[str, str, _Sum]], name: str, kind: str) -> str:
    key = name if kind == "service" else f"{kind}:{name}"
    nodes.setdefault(key, (name, kind, _Sum()))
    return key
