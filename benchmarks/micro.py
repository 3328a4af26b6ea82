"""Single operations, in turn: OpenTelemetry's SDK and otelkit, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.environments import CHECKOUT, micro_environment
from benchmarks.peers import peer
from benchmarks.processes import clean_environment, sink
from benchmarks.report import Spread, table

IMPLEMENTATIONS = {
    "OpenTelemetry": "contrib",
    "otelkit": "otelkit",
    "otelkit, recorder": "otelkit_recorder",
    "otelkit, SDK's engine": "otelkit_sdk",
}
"""A column of the table, and the peer whose variables its process gets."""

OPERATIONS = {
    "span": ("span start + end, 12 attributes", 1.5),
    "current span": ("the same, made current", 1.8),
    "bound counter": ("counter add, 4 labels bound", 0.4),
    "declared counter": ("counter add, 4 labels given to otelkit's declared metric", 0.8),
    "counter": ("counter add, 4 attributes through OpenTelemetry's API", 0.8),
    "bound histogram": ("histogram record, 4 labels bound", 0.6),
    "declared histogram": ("histogram record, 4 labels given to otelkit's declared metric", 1.0),
    "histogram": ("histogram record, 4 attributes through OpenTelemetry's API", 1.0),
    "log": ("log record through the logging module, beyond its own cost", 4.0),
    "encoded span": ("OTLP encoding of a span with 12 attributes", 2.0),
    "encoded log": ("OTLP encoding of a log record with 4 attributes", 1.5),
    "encoded point": ("OTLP encoding of a metric point with 4 attributes", 1.0),
}
"""What each operation is called, and what otelkit aims at, in microseconds."""

Rounds = dict[str, list[dict[str, float]]]


def measure(rounds: int, peers: Sequence[str]) -> Rounds:
    """Nanoseconds of every operation in every round, by implementation; of those whose peer is among these."""
    python = micro_environment()
    found: Rounds = {name: [] for name, of_peer in IMPLEMENTATIONS.items() if of_peer in peers}
    with tempfile.TemporaryDirectory(prefix="otelkit-bench-") as temporary, sink(Path(temporary)) as receiver:
        for _ in range(rounds):
            for name in found:
                chosen = IMPLEMENTATIONS[name]
                environ = clean_environment(
                    **peer(chosen).environ(receiver.url),
                    OTELKIT_STATE_DIR=f"{temporary}/state",
                    OTELKIT_RUNTIME_METRICS="false",  # its points would be encoded with those that are counted
                )
                word = "sdk" if chosen == "contrib" else "otelkit"
                command = [str(python), "-m", "benchmarks.operations", word]
                answer = subprocess.run(command, cwd=CHECKOUT, env=environ, check=True, stdout=subprocess.PIPE)
                found[name].append(json.loads(answer.stdout))
    return found


def shown(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The table, in microseconds."""
    rows = []
    for key, (title, aim) in OPERATIONS.items():
        cells = [
            Spread.of(each[key] / 1000 for each in runs).shown(2) if runs and key in runs[0] else ""
            for runs in found.values()
        ]
        rows.append((title, *cells, f"{aim:.1f}"))
    return table(("us", *found, "otelkit's aim"), rows)
