"""`otelkit env`: every setting, its value, and where it came from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import typer

from otelkit.config.load import Loaded, load
from otelkit.config.setting import Resolved, Setting
from otelkit.config.settings import INSTRUMENT_PREFIX
from otelkit.errors import ConfigurationError

_WIDEST_VALUE = 48


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    value: str
    unit: str
    source: str

    @property
    def cells(self) -> tuple[str, str, str]:
        return self.name, f"{self.value} {self.unit}".rstrip(), self.source


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
    rows = [row for row in _rows(loaded) if not only_set or row.source != "default"]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print(rows)
    for problem in (*loaded.problems, *loaded.hints):
        typer.echo(f"warning: {problem}", err=True)


def _print(rows: list[_Row]) -> None:
    """As columns, whatever the width of the terminal: a value that is longer than its column is not cut."""
    cells = [("setting", "value", "source"), *(row.cells for row in rows)]
    name_width, value_width = (max(len(row[column]) for row in cells) for column in (0, 1))
    for row in cells:
        line = f"{row[0]:{name_width}}  {row[1]:{min(value_width, _WIDEST_VALUE)}}  {row[2]}"
        typer.echo(line if row[2] == "default" else typer.style(line, bold=True))


def _rows(loaded: Loaded) -> list[_Row]:
    rows = [_row(setting, found) for setting, found in loaded.settings.items()]
    chosen = loaded.settings.chosen_instrumentations()
    return rows + [_Row(INSTRUMENT_PREFIX + name.upper(), choice, "", "set") for name, choice in chosen.items()]


def _row(setting: Setting[object], found: Resolved) -> _Row:
    """What a source says is shown as it says it, a default in the unit of the variable."""
    if found.source == "default":
        value = setting.default_text()
        return _Row(setting.env, value, setting.unit if value else "", found.source)
    unit = setting.unit if found.source == "environment" else setting.key_unit
    return _Row(setting.env, setting.masked(found.raw.strip()), unit, found.source)
