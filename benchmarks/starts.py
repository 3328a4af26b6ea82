"""The start of a process: fresh interpreters in turn, CPU and time on the clock beyond bare Python's."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import micro_environment
from benchmarks.peers import peer
from benchmarks.processes import clean_environment
from benchmarks.report import Spread, table

STARTS = {
    "bare": ("Python alone", ""),
    "sdk": (
        "import of OpenTelemetry's SDK, three signals",
        "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics, opentelemetry.sdk._logs",
    ),
    "contrib": (
        "OpenTelemetry's SDK with its OTLP exporters set up in code",
        "from benchmarks.peers.contrib import set_up_sdk; set_up_sdk()",
    ),
    "distro": (
        "OpenTelemetry's distro, as `opentelemetry-instrument` starts it",
        "from opentelemetry.instrumentation.auto_instrumentation import initialize; initialize()",
    ),
    "otelkit import": ("import otelkit", "import otelkit"),
    "otelkit": ("import otelkit, bootstrap", "import otelkit; otelkit.bootstrap('x')"),
    "otelkit_sdk": ("import otelkit, bootstrap with the SDK's engine", "import otelkit; otelkit.bootstrap('x')"),
}
"""What a fresh interpreter runs; frameworks are installed and not imported."""

_DISTRO = {
    "OTEL_PYTHON_DISTRO": "distro",
    "OTEL_PYTHON_CONFIGURATOR": "configurator",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}

_NOBODY = "http://127.0.0.1:9"  # nothing is recorded, so nothing is sent


@dataclass(frozen=True)
class Start:
    """One start of an interpreter: CPU of all its threads, and time on the clock."""

    cpu_ms: float
    wall_ms: float


def measure(starts: int, peers: Sequence[str]) -> dict[str, list[Start]]:
    """Starts a fresh interpreter this often for each row, in turn; one more before that is not counted."""
    python = micro_environment()
    found: dict[str, list[Start]] = {name: [] for name in STARTS if name != "otelkit_sdk" or name in peers}
    with tempfile.TemporaryDirectory(prefix="otelkit-bench-") as folder:
        for number in range(starts + 1):
            for name in found:
                start = _start(python, f"{STARTS[name][1]}\nimport os; os._exit(0)", _environ(name, folder))
                if number:
                    found[name].append(start)
    return found


def _environ(name: str, folder: str) -> dict[str, str]:
    if name == "distro":
        return clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=_NOBODY, **_DISTRO)
    chosen = peer(name if name == "otelkit_sdk" else "otelkit")
    return clean_environment(OTELKIT_STATE_DIR=folder, **chosen.environ(_NOBODY))


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


def shown(found: Mapping[str, Sequence[Start]]) -> str:
    """The table: milliseconds beyond bare Python, each start compared with the bare one of its turn."""
    rows = []
    for name, starts in found.items():
        title = STARTS[name][0]
        if name == "bare":
            cpu, wall = ([getattr(each, unit) for each in starts] for unit in ("cpu_ms", "wall_ms"))
        else:
            title += ": beyond that"
            pairs = list(zip(starts, found["bare"], strict=True))
            cpu = [each.cpu_ms - bare.cpu_ms for each, bare in pairs]
            wall = [each.wall_ms - bare.wall_ms for each, bare in pairs]
        rows.append((title, Spread.of(cpu).shown(), Spread.of(wall).shown()))
    return table(("ms", "CPU", "clock"), rows)
