"""`otelkit export` and `otelkit import`: a trace or a time out of a viewer into a file, and back."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TextIO

import typer

from otelkit.viewer.client import URL, Client, NoAnswer

_SIGNALS = {"resourceSpans": "traces", "resourceLogs": "logs", "resourceMetrics": "metrics"}


def export_command(
    trace: str = typer.Argument("", metavar="TRACE", help="The id of a trace; without one, a time."),
    minutes: float = typer.Option(15.0, "--minutes", min=0.01, help="The last so many minutes."),
    output: Path = typer.Option(None, "-o", "--output", metavar="FILE", help="Default: what is printed."),
    url: str = typer.Option(URL, "--url", help="The viewer's."),
    token: str = typer.Option("", "--token", help="The viewer's."),
) -> None:
    """Write a trace, or the spans, logs and metrics of a time, as OTLP/JSON: a request a line.

    Example: otelkit export 836c9541393486d73d3ab6870aa58ef9 -o trace.jsonl
    """
    asked = {"trace": trace} if trace else {"from": str((time.time() - 60 * minutes) * 1000)}
    try:
        lines = list(Client(url, token).lines("export", **asked))
    except NoAnswer as error:
        raise _failed("export", str(error)) from None
    if not lines:
        raise _failed("export", f"there is no trace {trace}" if trace else "there is nothing in that time")
    target: TextIO = sys.stdout if output is None else output.open("w", encoding="utf-8")
    try:
        target.writelines(f"{line}\n" for line in lines)
    finally:
        if target is not sys.stdout:
            target.close()


def import_command(
    file: Path = typer.Argument(..., metavar="FILE", exists=True, dir_okay=False, help="As `otelkit export` wrote it."),
    url: str = typer.Option(URL, "--url", help="The viewer's, or any OTLP/HTTP receiver's."),
    token: str = typer.Option("", "--token", help="The viewer's."),
) -> None:
    """Send what `otelkit export` wrote, OTLP/JSON with a request a line, to a viewer or any other OTLP receiver."""
    client = Client(url, token)
    sent = 0
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                signal = next(_SIGNALS[key] for key in json.loads(line) if key in _SIGNALS)
            except (ValueError, TypeError, StopIteration):
                raise _failed("import", f"{file}:{number} is no OTLP request") from None
            try:
                client.post(signal, line.encode())
            except NoAnswer as error:
                raise _failed("import", f"{file}:{number}: {error}") from None
            sent += 1
    typer.echo(f"sent {sent} request{'' if sent == 1 else 's'} to {url}")


def _failed(command: str, message: str) -> typer.Exit:
    typer.echo(f"otelkit {command}: {message}", err=True)
    return typer.Exit(1)
