"""`otelkit recover`: sends what dead processes of a service have left in the spool and in the flight recorder."""

from __future__ import annotations

import typer

from otelkit.config.load import load
from otelkit.engine.providers import Providers
from otelkit.given import Given
from otelkit.running import Running


def recover(
    timeout_s: float = typer.Option(30.0, "--timeout", help="Longest time that it takes, in seconds.", min=0.1),
) -> None:
    """Send what dead processes of a service have left.

    A living process of the service, or its next start, does so by itself.
    This is for a service that does not start again. Settings come from the
    environment and pyproject.toml, as for the service: see `otelkit env`.

    Example: OTEL_SERVICE_NAME=shop otelkit recover
    """
    loaded = load({"recorder": "on"})
    for problem in loaded.problems:
        typer.echo(str(problem), err=True)
    running = Running(loaded.settings, (), Providers(), lambda _: None, Given())
    page = running.recover(timeout_s)
    for signal, account in page.accounts.items():
        dropped = "".join(f", {count} dropped ({reason.value})" for reason, count in account.dropped.items())
        typer.echo(f"{signal}: {account.adopted} found, {account.delivered} delivered{dropped}")
    left = page.outstanding + sum(account.spooled for account in page.accounts.values())
    if left:
        typer.echo(f"{left} are left where they were: {running.line()}", err=True)
        raise typer.Exit(1)
