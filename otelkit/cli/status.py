"""`otelkit status`: the ledger of running processes, read from their mapped pages."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone

import typer
from rich.console import Console
from rich.table import Table

from otelkit.config.load import load
from otelkit.delivery.ledger import LedgerPage, pages
from otelkit.errors import ConfigurationError
from otelkit.runtime.state import state_directory


def status(
    pid: int = typer.Option(0, "--pid", help="Of this process alone."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print what each process accepted, delivered and dropped; it needs no signal and no port of theirs."""
    try:
        directory = state_directory(load().settings.state_dir)
    except ConfigurationError as error:
        typer.echo(f"otelkit status: {error}", err=True)
        raise typer.Exit(1) from None
    found = [page for _, page in pages(directory) if not pid or page.pid == pid]
    if not found:
        whose = f"of process {pid}" if pid else "of any process"
        typer.echo(
            f"otelkit status: no ledger {whose} in {directory}. A process has one from its first record on;"
            " one with another OTELKIT_STATE_DIR or user keeps it elsewhere, one that OTEL_SDK_DISABLED switched off"
            " has none",
            err=True,
        )
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps([_data(page) for page in found], indent=2))
        return
    console = Console()
    for page in found:
        _print(console, page)


def _data(page: LedgerPage) -> dict[str, object]:
    return {
        "pid": page.pid,
        "service": page.service,
        "alive": _alive(page.pid),
        "since": datetime.fromtimestamp(page.started_ns / 1e9, timezone.utc).isoformat(timespec="seconds"),
        "signals": {
            signal: {
                "accepted": account.accepted,
                "delivered": account.delivered,
                "spooled": account.spooled,
                "in_memory": account.outstanding,
                "truncated": account.truncated,
                "dropped": {reason.value: count for reason, count in account.dropped.items()},
            }
            for signal, account in page.accounts.items()
        },
    }


def _print(console: Console, page: LedgerPage) -> None:
    since = datetime.fromtimestamp(page.started_ns / 1e9, timezone.utc).astimezone()
    alive = "running" if _alive(page.pid) else "ended without closing its ledger"
    console.print(f"[bold]{page.service}[/] pid {page.pid}, {alive}, since {since:%Y-%m-%d %H:%M:%S}")
    table = Table("signal", "accepted", "delivered", "spooled", "in memory", "dropped", box=None, pad_edge=False)
    for signal, account in page.accounts.items():
        dropped = ", ".join(f"{reason.value} {count}" for reason, count in account.dropped.items()) or "0"
        numbers = (account.accepted, account.delivered, account.spooled, account.outstanding)
        table.add_row(signal, *map(str, numbers), dropped)
    console.print(table)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
