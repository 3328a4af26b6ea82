"""Statements that ran over and over under one span, in a captured test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otelkit.testing.spans import CapturedSpan, Spans


@dataclass(frozen=True)
class Repeated:
    """One statement under one span: how often it ran, the seconds that it took in all, and `file:line` of the
    application where that was recorded (from OTELKIT_N_PLUS_ONE_THRESHOLD runs on).
    """

    parent: CapturedSpan | None
    statement: str
    count: int
    duration_s: float
    caller: str | None


def repeated(spans: Spans, at_least: int) -> list[Repeated]:
    """Those that ran so often, in the order of their first run."""
    groups: dict[tuple[str, str, str], list[CapturedSpan]] = {}
    for span in spans.queries:
        text = span.attributes.get("db.query.text")
        if isinstance(text, str) and span.parent_id is not None:
            groups.setdefault((span.trace_id, span.parent_id, text), []).append(span)
    return [
        Repeated(runs[0].parent, text, len(runs), sum(run.duration_s for run in runs), _caller(runs))
        for (_, _, text), runs in groups.items()
        if len(runs) >= at_least
    ]


def _caller(runs: list[CapturedSpan]) -> str | None:
    for run in runs:
        file = run.attributes.get("code.file.path")
        if file is not None:
            return f"{file}:{run.attributes.get('code.line.number')}"
    return None
