"""`otelkit run --ui`: a viewer beside the program, for as long as that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

import typer

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_START = "from otelkit.cli.main import main; main()"
# A developer waits for what a request did; the defaults (5 s, 60 s) spare a production collector.
_PROMPT = {"OTEL_BSP_SCHEDULE_DELAY": "500", "OTEL_BLRP_SCHEDULE_DELAY": "500", "OTEL_METRIC_EXPORT_INTERVAL": "5000"}


def run_with_viewer(program: str, command: list[str], environ: dict[str, str]) -> int:
    """Runs a program with a viewer that ends after it; returns the program's exit code, 128 + n for a signal's."""
    # A session of its own: Ctrl-C is for the program, whose last records the viewer still takes.
    viewer = subprocess.Popen(
        [sys.executable, "-c", _START, "ui"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        link = _link(viewer)
        environ = {**_PROMPT, **environ, _ENDPOINT: link}
        typer.echo(f"telemetry: {link}")
        return _run(program, command, environ)
    finally:
        viewer.send_signal(signal.SIGTERM)
        try:
            viewer.wait(10)
        except subprocess.TimeoutExpired:
            viewer.kill()
            viewer.wait()


def _link(viewer: subprocess.Popen[str]) -> str:
    assert viewer.stdout is not None
    for line in viewer.stdout:
        if line.startswith("open "):
            return line.removeprefix("open ").strip()
    raise typer.Exit(viewer.wait() or 1)  # it has said why


def _run(program: str, command: list[str], environ: dict[str, str]) -> int:
    child = subprocess.Popen(command, executable=program, env=environ)

    def pass_on(number: int, frame: FrameType | None) -> None:
        # Ctrl-C of a terminal has reached the program already.
        if number != signal.SIGINT or not os.isatty(0):
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
