"""Writes docs/reference from the code's own tables: `make docs`; with `--check` it only says what is stale."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import otelkit
from otelkit import semconv
from otelkit.config.not_honoured import NOT_HONOURED
from otelkit.config.parse import to_text
from otelkit.config.setting import Setting
from otelkit.config.settings import CHOICES, INSTRUMENT_PREFIX, OTLP_PARTS, SIGNALS, TABLE
from otelkit.delivery import ledger

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
_NOTE = "<!-- Written by `make docs` from the code; do not edit. -->\n\n"


def settings() -> str:
    """Every setting: variable, keyword, default, what it does; and the variables that do nothing."""
    rows = ["# Settings\n", _NOTE.rstrip() + "\n"]
    rows.append(
        "A keyword argument of `bootstrap` wins over the environment, that over `[tool.otelkit]` in pyproject.toml, that over the\n"
        "default. The keyword is also the key in pyproject.toml. Durations of `OTEL_*` are milliseconds, as the specification says\n"
        "(OpenTelemetry Python reads OTEL_EXPORTER_OTLP_TIMEOUT as seconds). `otelkit env` prints them all with their values.\n"
    )
    rows.append("| variable | keyword | default | what it does |\n|---|---|---|---|")
    own = {f"OTEL_EXPORTER_OTLP_{signal.upper()}_{part}" for signal in SIGNALS for part in OTLP_PARTS}
    for env, setting in TABLE.items():
        if env not in own:
            rows.append(f"| `{env}` | `{setting.key}` | {_default(setting)} | {_cell(setting.doc)} |")
    signals = ", ".join(f"`{signal.upper()}`" for signal in SIGNALS)
    rows.append(
        f"| `OTEL_EXPORTER_OTLP_<SIGNAL>_…` | `otlp_<signal>_…` | the general one | each of the `OTEL_EXPORTER_OTLP_…` above for one"
        f" signal ({signals}); an endpoint is used as it is, without `/v1/<signal>` |"
    )
    choices = ", ".join(f"`{choice}`" for choice in CHOICES)
    rows.append(
        f"| `{INSTRUMENT_PREFIX}<LIB>` | `instrument={{'lib': …}}` | decided by the registry | who instruments a library: {choices} |"
    )
    rows.append("\n## Standard variables that do nothing\n\nOne that is set is named in a WARNING at start.\n")
    rows.append("| variable | why |\n|---|---|")
    rows += [f"| `{row.env}` | {_cell(row.doc)} |" for row in NOT_HONOURED]
    rows.append(
        "\n`OTEL_PYTHON_CONTEXT`, `OTEL_PYTHON_DISTRO` and `OTEL_PYTHON_CONFIGURATOR` belong to OpenTelemetry's API and launcher and work"
        " as ever.\n`OTEL_SEMCONV_STABILITY_OPT_IN` concerns contrib's instrumentations; otelkit sets it to `http,database` unless it is"
        " set."
    )
    return "\n".join(rows) + "\n"


def metrics() -> str:
    """Every metric of otelkit's own with its name in Prometheus."""
    rows = [
        "# Metrics\n",
        _NOTE.rstrip() + "\n",
        "| metric | in Prometheus | kind | unit | labels | what it is |\n|---|---|---|---|---|---|",
    ]
    for metric in semconv.TABLE:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(
            f"| `{metric.name}` | `{metric.prometheus_name}` | {metric.kind.replace('_', ' ')} | `{metric.unit}` | {labels} |"
            f" {_cell(metric.description)} |"
        )
    rows.append("\nBuckets, in seconds:\n")
    rows += [
        f"- `{metric.name}`: {', '.join(f'{bound:g}' for bound in metric.buckets)}"
        for metric in semconv.TABLE
        if metric.buckets
    ]
    return "\n".join(rows) + "\n"


def drops() -> str:
    """Every reason for which a record is dropped, with the docstring behind it in the code."""
    rows = ["# Drop reasons\n", _NOTE.rstrip() + "\n", "| `otelkit.reason` | when |\n|---|---|"]
    docs = dict(_member_docs(ledger.DropReason))
    rows += [f"| `{reason.value}` | {_cell(docs[reason.name])} |" for reason in ledger.DropReason]
    return "\n".join(rows) + "\n"


def api() -> str:
    """Every public name with its signature and docstring."""
    rows = ["# API\n", _NOTE.rstrip() + "\n"]
    for name in otelkit.__all__:
        found = getattr(otelkit, name)
        if inspect.ismodule(found):
            rows.append(f"## `otelkit.{name}`\n\n{inspect.getdoc(found)}\n")
            continue
        signature = "" if inspect.isclass(found) else str(inspect.signature(found)).replace("'", "")
        rows.append(f"## `otelkit.{name}{signature}`\n\n{inspect.getdoc(found)}\n")
        if inspect.isclass(found) and not issubclass(found, Exception):
            for key, value in vars(found).items():
                if inspect.isfunction(value) and not key.startswith("_"):
                    shown = (
                        str(inspect.signature(value)).replace("'", "").replace("(self, ", "(").replace("(self)", "()")
                    )
                    rows.append(f"- `{key}{shown}`: {_cell((inspect.getdoc(value) or '').partition(chr(10) * 2)[0])}")
            rows.append("")
    return "\n".join(rows).rstrip() + "\n"


PAGES = {"settings.md": settings, "metrics.md": metrics, "drops.md": drops, "api.md": api}


def stale() -> list[str]:
    """The names of the pages whose file differs from what the code says."""
    return [
        name
        for name, make in PAGES.items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != make()
    ]


def _default(setting: Setting[object]) -> str:
    value = setting.default
    return "" if value is None or value in ((), {}, "") else f"`{to_text(value)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _member_docs(enumeration: type) -> Iterator[tuple[str, str]]:
    """The string behind each member: Python keeps none of them, the source does."""
    body = ast.parse(inspect.getsource(enumeration)).body[0]
    assert isinstance(body, ast.ClassDef)
    name = ""
    for statement in body.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and name:
            yield name, str(statement.value.value)


def main() -> int:
    """Writes the pages, or with `--check` names the stale ones and returns 1."""
    if "--check" in sys.argv[1:]:
        for name in stale():
            sys.stderr.write(f"docs/reference/{name} is stale: run `make docs`\n")
        return 1 if stale() else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
