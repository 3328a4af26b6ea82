"""The `otelkit` command: puts its subcommands together."""

from __future__ import annotations

from importlib.metadata import version

import typer

from otelkit.cli import auto, env, monitor, recover, run, status, tail, transfer, ui

app = typer.Typer(
    name="otelkit",
    help="OpenTelemetry for Python services: start programs with telemetry, look at settings and at running processes.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
# Options behind the program's name are the program's.
app.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(run.run)
app.command("env")(env.env)
app.command("status")(status.status)
app.command("recover")(recover.recover)
app.command("ui")(ui.ui)
app.command("tail")(tail.tail)
app.command("export")(transfer.export_command)
app.command("import")(transfer.import_command)
app.add_typer(auto.app, name="auto")
app.add_typer(monitor.app, name="monitor")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"otelkit {version('otelkit')}")
        raise typer.Exit


@app.callback()
def _root(
    show: bool = typer.Option(False, "--version", help="Print the version.", callback=_print_version, is_eager=True),
) -> None:
    """OpenTelemetry for Python services."""


def main() -> None:
    """Entry point of the `otelkit` command."""
    app()
