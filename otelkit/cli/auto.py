"""`otelkit auto enable|disable`: lets OTELKIT_AUTO=1 start telemetry in every Python program of this environment."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, help="Start telemetry in unchanged commands, by OTELKIT_AUTO=1.")

_LINE = (
    'import os; os.environ.get("OTELKIT_AUTO", "").strip().lower() in ("1", "true", "on", "yes")'
    ' and __import__("otelkit.auto").auto.start()\n'
)


def path_file() -> Path:
    """The .pth file of this environment."""
    return Path(sysconfig.get_paths()["purelib"]) / "otelkit-auto.pth"


@app.command()
def enable() -> None:
    """Put otelkit-auto.pth into this environment. Nothing happens in any program until OTELKIT_AUTO=1 is set for it."""
    file = path_file()
    try:
        file.write_text(_LINE, encoding="utf-8")
    except OSError as error:
        typer.echo(f"otelkit auto: {file} cannot be written ({error.strerror}); use `otelkit run` instead", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"Wrote {file}.")
    typer.echo(f"Programs of {sys.prefix} start with telemetry when OTELKIT_AUTO=1 is set:")
    typer.echo("    OTELKIT_AUTO=1 OTEL_SERVICE_NAME=shop uvicorn app:app")


@app.command()
def disable() -> None:
    """Take otelkit-auto.pth out of this environment."""
    file = path_file()
    if not file.exists():
        typer.echo(f"{file} is not there: nothing to do.")
        return
    try:
        file.unlink()
    except OSError as error:
        typer.echo(f"otelkit auto: {file} cannot be removed ({error.strerror})", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"Removed {file}.")
