"""Draws captured telemetry for the message of a failed test."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from otelkit.console.local_traces import gather
from otelkit.console.terminal import PLAIN, rendered
from otelkit.console.tree import draw


def drawn(spans: Iterable[ReadableSpan], records: Iterable[ReadWriteLogRecord]) -> str:
    """The tree of each trace, without colours."""
    lines = [line for trace in gather(spans, records) for line in draw(trace, PLAIN)]
    return rendered(lines, PLAIN).rstrip("\n") or "no spans were recorded"
