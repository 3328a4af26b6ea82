"""`otelkit env`: every setting, its value, and where it came from."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table

from otelkit.config.load import Loaded, load
from otelkit.config.parse import to_text
from otelkit.config.setting import Resolved, Setting
from otelkit.config.settings import INSTRUMENT_PREFIX
from otelkit.errors import ConfigurationError


def env(
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    only_set: bool = typer.Option(False, "--set", help="Leave out what has its default."),
) -> None:
    """Print every setting as a program started here would see it; secrets are masked."""
    try:
        loaded = load()
    except ConfigurationError as error:
        typer.echo(f"otelkit env: {error}", err=True)
        raise typer.Exit(1) from None
    rows = [row for row in _rows(loaded) if not only_set or row[2] != "default"]
    if as_json:
        typer.echo(json.dumps([dict(zip(("name", "value", "source"), row, strict=True)) for row in rows], indent=2))
    else:
        table = Table("setting", "value", "source", box=None, pad_edge=False)
        for name, value, source in rows:
            table.add_row(name, value, source, style=None if source == "default" else "bold")
        Console(soft_wrap=True).print(table)
    for problem in loaded.problems:
        typer.echo(f"warning: {problem}", err=True)


def _rows(loaded: Loaded) -> list[tuple[str, str, str]]:
    rows = [(setting.env, _shown(setting, found), found.source) for setting, found in loaded.settings.items()]
    chosen = loaded.settings.chosen_instrumentations()
    return rows + [(INSTRUMENT_PREFIX + name.upper(), choice, "set") for name, choice in chosen.items()]


def _shown(setting: Setting[object], found: Resolved) -> str:
    if found.source != "default":
        return setting.masked(found.raw)
    value = found.value
    if value is None or value in ((), {}):
        return ""
    return to_text(value)
