"""`otelkit run COMMAND`: starts any Python program with telemetry from the environment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import typer

from otelkit.cli.beside import run_with_viewer

SITE = Path(__file__).resolve().parent.parent / "_site"


# The help keeps the lines as they stand here.
def run(
    command: list[str] = typer.Argument(None, metavar="COMMAND", help="The program, then its own arguments."),
    with_ui: bool = typer.Option(False, "--ui", help="Start a viewer too (otelkit[ui]), and print its link."),
) -> None:
    """Start a Python program with telemetry.

    Settings come from the environment and pyproject.toml: see `otelkit env`.
    The program replaces this process; its own child processes start with
    telemetry too. Python's -I and -E switch it off: they ignore PYTHONPATH.
    With --ui it is a child of this process, which ends a viewer after it.

    Example: OTEL_SERVICE_NAME=shop otelkit run uvicorn app:app --port 8000
    """
    if not command:
        typer.echo("otelkit run: which command? For example: otelkit run uvicorn app:app", err=True)
        raise typer.Exit(2)
    program = shutil.which(command[0])
    if program is None:
        typer.echo(f"otelkit run: {command[0]!r} is not a program on PATH", err=True)
        raise typer.Exit(127)
    environ = environment(os.environ.copy())
    if with_ui:
        raise typer.Exit(run_with_viewer(program, command, environ))
    os.execve(program, command, environ)


def environment(environ: dict[str, str]) -> dict[str, str]:
    """The environment with otelkit's sitecustomize first on PYTHONPATH."""
    others = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(SITE)]
    environ["PYTHONPATH"] = os.pathsep.join((str(SITE), *others))
    return environ
