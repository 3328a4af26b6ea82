"""Single operations and the start of a process: otelkit's and OpenTelemetry's own, in turn."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import CHECKOUT, environment
from benchmarks.peers import APPLICATION, contrib
from benchmarks.peers.otelkit import PEER as OTELKIT
from benchmarks.processes import clean_environment, sink
from benchmarks.report import Spread, table

IMPLEMENTATIONS = ("bare", "sdk", "otelkit")

OPERATIONS = {
    "span": "span start + end, 12 attributes",
    "current span": "the same, made current",
    "counter": "counter add, 4 attributes",
    "histogram": "histogram record, 4 attributes",
    "log": "log record through the logging module",
    "encoded span": "OTLP encoding of a span with 12 attributes",
    "encoded log": "OTLP encoding of a log record with 4 attributes",
    "encoded point": "OTLP encoding of a metric point with 4 attributes",
}

STARTS = {
    "bare": ("Python alone", ""),
    "sdk": (
        "import of OpenTelemetry's SDK, three signals",
        "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics, opentelemetry.sdk._logs",
    ),
    "contrib": (
        "OpenTelemetry's SDK with its OTLP exporters set up",
        "from benchmarks.peers.contrib import set_up_sdk; set_up_sdk()",
    ),
    "otelkit import": ("import otelkit", "import otelkit"),
    "otelkit": ("import otelkit, bootstrap", "import otelkit; otelkit.bootstrap('x')"),
}
"""What a fresh interpreter runs; frameworks are installed and not imported."""


@dataclass(frozen=True)
class Start:
    """One start of an interpreter: CPU of all its threads, and time on the clock."""

    cpu_ms: float
    wall_ms: float


def _environment() -> Path:
    requirements = (*APPLICATION, *OTELKIT.requirements, "celery", *contrib.SDK, contrib.LOGGING)
    return environment("micro", requirements)


def measure_operations(rounds: int) -> dict[str, list[dict[str, float]]]:
    """Nanoseconds of every operation in every round, by implementation."""
    python = _environment()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in IMPLEMENTATIONS}
    with tempfile.TemporaryDirectory(prefix="otelkit-bench-") as folder, sink(Path(folder)) as port:
        environ = clean_environment(
            OTEL_SERVICE_NAME="benchmark",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTELKIT_STATE_DIR=f"{folder}/state",
        )
        for _ in range(rounds):
            for name in IMPLEMENTATIONS:
                command = [str(python), "-m", "benchmarks.operations", name]
                answer = subprocess.run(command, cwd=CHECKOUT, env=environ, check=True, stdout=subprocess.PIPE)
                found[name].append(json.loads(answer.stdout))
    return found


def operations_table(found: Mapping[str, list[dict[str, float]]]) -> str:
    """Microseconds of each operation; a log record's are those beyond the logging module's own."""
    rows = []
    for key, name in OPERATIONS.items():
        sdk, own = ([each[key] / 1000 for each in found[who]] for who in ("sdk", "otelkit"))
        if key == "log":
            bare = [each[key] / 1000 for each in found["bare"]]
            sdk, own = ([a - b for a, b in zip(values, bare, strict=True)] for values in (sdk, own))
            name += ", beyond its own cost"
        ratio = Spread.of(mine / theirs for mine, theirs in zip(own, sdk, strict=True))
        rows.append((name, Spread.of(sdk).shown(2), Spread.of(own).shown(2), f"{ratio.median:.2f}"))
    return table(("us", "OpenTelemetry", "otelkit", "otelkit / OpenTelemetry"), rows)


def measure_starts(runs: int) -> dict[str, list[Start]]:
    """Starts a fresh interpreter `runs` times for each row, in turn; one more before that is not counted."""
    python = _environment()
    found: dict[str, list[Start]] = {name: [] for name in STARTS}
    with tempfile.TemporaryDirectory(prefix="otelkit-bench-") as folder:
        environ = clean_environment(OTELKIT_STATE_DIR=folder)
        for number in range(runs + 1):
            for name, (_, code) in STARTS.items():
                start = _start(python, f"{code}\nimport os; os._exit(0)", environ)
                if number:
                    found[name].append(start)
    return found


def _start(python: Path, code: str, environ: Mapping[str, str]) -> Start:
    started = time.perf_counter()
    # No terminal: otelkit would draw its tree there.
    silent = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]
    pid = os.posix_spawn(python, [str(python), "-c", code], dict(environ), file_actions=silent)
    _, status, used = os.wait4(pid, 0)
    elapsed = time.perf_counter() - started
    if status:
        raise RuntimeError(f"python -c {code!r} ended with {os.waitstatus_to_exitcode(status)}")
    return Start((used.ru_utime + used.ru_stime) * 1000, elapsed * 1000)


def starts_table(found: Mapping[str, list[Start]]) -> str:
    """Milliseconds beyond bare Python, each start compared with the bare one of its turn."""
    rows = []
    for name, (title, _) in STARTS.items():
        if name == "bare":
            cpu, wall = ([getattr(each, unit) for each in found[name]] for unit in ("cpu_ms", "wall_ms"))
        else:
            pairs = list(zip(found[name], found["bare"], strict=True))
            cpu = [each.cpu_ms - bare.cpu_ms for each, bare in pairs]
            wall = [each.wall_ms - bare.wall_ms for each, bare in pairs]
        rows.append(
            (title if name == "bare" else f"{title}: beyond that", Spread.of(cpu).shown(), Spread.of(wall).shown())
        )
    return table(("ms", "CPU", "clock"), rows)
