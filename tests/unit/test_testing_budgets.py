"""Budgets: what the mark may say, and what exceeds it."""

from __future__ import annotations

import pytest

import otelkit
from otelkit.testing import Captured
from otelkit.testing.budgets import Budget

QUERY = {"db.system.name": "sqlite", "db.query.text": "SELECT 1\n  FROM items WHERE id = ?"}


def test_the_innermost_mark_wins_for_each_budget() -> None:
    """A mark on the function over one on its class, the other budgets of which still hold."""
    budget = Budget.of([((), {"max_queries": 3}), ((), {"max_queries": 9, "max_spans": 20, "max_duration_s": 0.5})])
    assert budget == Budget(max_queries=3, max_spans=20, max_duration_s=0.5)


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((3,), {}, "its budgets are keyword arguments: max_queries, max_spans, max_duration_s"),
        ((), {"max_query": 3}, "'max_query' is no budget; there are max_queries, max_spans, max_duration_s"),
        ((), {"max_queries": "3"}, "max_queries='3' is no count"),
        ((), {"max_queries": 1.5}, "max_queries=1.5 is no count"),
        ((), {"max_spans": True}, "max_spans=True is no count"),
        ((), {"max_spans": -1}, "max_spans=-1 is no count"),
        ((), {"max_duration_s": "1s"}, "max_duration_s='1s' is no time in seconds"),
    ],
)
def test_what_is_no_budget_is_named(args: tuple[object, ...], kwargs: dict[str, object], said: str) -> None:
    """And what there is instead."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        Budget.of([(args, kwargs)])
    assert str(raised.value) == said


def test_queries_are_database_calls_alone(telemetry: Captured) -> None:
    """Client spans with a database's name, SQL and Redis; the repeated statement is named first, on one line."""
    with otelkit.span("GET /orders", _kind="server"):
        for _ in range(3):
            with otelkit.span("SELECT items", QUERY, _kind="client"):
                pass
        with otelkit.span("GET", {"db.system.name": "redis"}, _kind="client"):
            pass
        with otelkit.span("GET", {"server.address": "tax.example"}, _kind="client"):
            pass
        with otelkit.span("count", QUERY):
            pass
    assert Budget(max_queries=4).excess(telemetry.spans) == []
    assert Budget(max_queries=3).excess(telemetry.spans) == [
        "4 queries, 3 allowed",
        "  3 × SELECT 1 FROM items WHERE id = ?  (sqlite)",
    ]


def test_without_a_repetition_every_statement_is_named(telemetry: Captured) -> None:
    """So that the one too many can be found."""
    for name in ("SELECT items", "SELECT orders"):
        with otelkit.span(name, {"db.system.name": "sqlite"}, _kind="client"):
            pass
    assert Budget(max_queries=0).excess(telemetry.spans) == [
        "2 queries, 0 allowed",
        "  SELECT items  (sqlite)",
        "  SELECT orders  (sqlite)",
    ]


def test_spans_are_counted_all(telemetry: Captured) -> None:
    """Whatever their kind."""
    with otelkit.span("outer"), otelkit.span("inner"):
        pass
    assert Budget(max_spans=2).excess(telemetry.spans) == []
    assert Budget(max_spans=1).excess(telemetry.spans) == ["2 spans, 1 allowed"]


def test_the_duration_is_each_roots(telemetry: Captured) -> None:
    """A request that took too long is named; what lies under it is not."""
    with otelkit.span("slow"), otelkit.span("inner"):
        pass
    root = telemetry.spans.named("slow").one()
    assert Budget(max_duration_s=root.duration_s).excess(telemetry.spans) == []
    (line,) = Budget(max_duration_s=0.0).excess(telemetry.spans)
    assert line == f"slow took {root.duration_s:.3f} s, 0 s allowed"
