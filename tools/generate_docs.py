"""Writes docs/reference from the code: `make docs`; with `--check` it only says what is stale.

The pages are checked in, so that they can be read without running anything; tests/unit/test_docs.py compares.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import otelkit
from otelkit.config.not_honoured import NOT_HONOURED
from otelkit.config.setting import Setting
from otelkit.config.settings import CHOICES, INSTRUMENT_PREFIX, OTLP_PARTS, SIGNALS, TABLE, Settings
from otelkit.delivery.ledger import DropReason
from otelkit.instrumentation.library import LIBRARIES
from otelkit.semconv import TABLE as METRICS
from otelkit.semconv import Metric

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"

_NOTE = "<!-- Written by `make docs` from the code; do not edit. -->"


def settings_page() -> str:
    """Every setting, grouped as in the table that the code reads, and the variables that do nothing."""
    lines = [
        "# Settings",
        "",
        _NOTE,
        "",
        "A setting comes from the first of these that names it: a keyword argument of `otelkit.bootstrap`, the"
        " environment variable, the key in `[tool.otelkit]` of the nearest pyproject.toml (in the folder where the"
        " program starts, or above it), the default. `otelkit env` prints what holds and where it came from, secrets"
        " masked.",
        "",
        "Every source takes the same text or number, but for durations: a variable of OpenTelemetry's takes"
        " milliseconds, as the specification says, and a keyword or key whose name ends in `_s` takes seconds."
        " `OTEL_BSP_SCHEDULE_DELAY=5000` is `bsp_schedule_delay_s=5`. Defaults stand in the variable's unit.",
        "",
        "An empty variable counts as unset. A value that is not allowed is named in one WARNING and the next source"
        " counts; with `OTELKIT_STRICT=1` it raises `ConfigurationError` and nothing is started. A wrong or unknown"
        " keyword argument always raises. A value that is allowed and was hardly meant (a time-out of 10 milliseconds)"
        " counts, with a WARNING.",
        "",
        "Where regular expressions are listed, every comma separates two of them, as in OpenTelemetry's own packages:"
        " `a{1,2}` cannot be written, and is named in a WARNING.",
        "",
        "```toml",
        "[tool.otelkit]",
        'service_name = "shop"',
        'excluded_urls = ["/health$", "/metrics$"]',
        "",
        "[tool.otelkit.instrument]",
        'redis = "off"',
        "```",
    ]
    for title, settings in _grouped_settings():
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        if any(_is_otlp_part(setting) for setting in settings):
            lines += [
                "Each has a variable for one signal alone, which wins: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (keyword"
                " `otlp_traces_endpoint`), and so on for `METRICS` and `LOGS`. A signal's own endpoint is used as it"
                " is, no path is added.",
                "",
            ]
        rows = [(f"`{setting.env}`", f"`{setting.key}`", _default(setting), _text(setting.doc)) for setting in settings]
        lines += _table(("variable", "keyword and key", "default", "what it does"), rows)
    libraries = ", ".join(f"`{library.name.upper()}`" for library in LIBRARIES)
    lines += [
        "",
        "## Who instruments a library",
        "",
        f"`{INSTRUMENT_PREFIX}<LIB>` (keyword `instrument={{…}}`, table `[tool.otelkit.instrument]`) is one of "
        + ", ".join(f"`{choice}`" for choice in CHOICES)
        + f". `<LIB>` is one of otelkit's own, {libraries} or `LOGGING`, or the entry point of a contrib"
        + " instrumentation in capitals with `-` as `_`: `OTELKIT_INSTRUMENT_HTTPX=off`."
        + " [Instrumentation](../instrumentation/README.md) says what each choice does.",
        "",
        "## Standard variables that do nothing here",
        "",
        "One that is set is named in a WARNING at the start.",
        "",
    ]
    reasons: dict[str, list[str]] = {}
    for row in NOT_HONOURED:
        reasons.setdefault(row.doc, []).append(f"`{row.env}`")
    lines += _table(("variable", "why"), [(", ".join(names), _text(doc)) for doc, names in reasons.items()])
    lines += ["", "## Variables of others", "", "They work as ever; otelkit is not asked.", ""]
    return _page([*lines, *_table(("variable", "whose"), _OTHERS)])


_OTHERS = (
    ("`OTEL_PYTHON_CONTEXT`", "the OpenTelemetry API's: which context implementation it loads"),
    (
        "`OTEL_PYTHON_DISTRO`, `OTEL_PYTHON_CONFIGURATOR`",
        "`opentelemetry-instrument`'s: `otelkit` for both makes it use otelkit",
    ),
    (
        "`OTEL_SEMCONV_STABILITY_OPT_IN`",
        "contrib instrumentations': which conventions they follow. otelkit sets it to `http,database` where it is"
        " unset; its own instrumentations know the stable ones only",
    ),
    (
        "`OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST`,"
        " `OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE`,"
        " `OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS`",
        "contrib instrumentations'",
    ),
    ("`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`", "the proxy for OTLP over HTTP, as for Python's urllib"),
    ("`COLUMNS`, `NO_COLOR`", "width and colours of the console tree"),
    ("`OTELKIT_STACK_BIN`", "the tests' and the demo's: the folder of the stack's programs"),
)


def _grouped_settings() -> list[tuple[str, list[Setting[object]]]]:
    """The settings by the headings that stand in the source of `Settings`."""
    by_key = {setting.key: setting for setting in TABLE.values()}
    groups: list[tuple[str, list[Setting[object]]]] = []
    for line in inspect.getsource(Settings).splitlines():
        if heading := re.fullmatch(r"    # -- (.+)", line):
            groups.append((heading[1].partition(" (")[0], []))
        elif declared := re.match(r"    (\w+) = (?:Setting|Duration)\(", line):
            groups[-1][1].append(by_key[declared[1]])
    return groups


def settings_shown() -> set[str]:
    """The variables that the page has a row for, or tells of as one signal's own."""
    rows = {setting.env for _, settings in _grouped_settings() for setting in settings}
    return rows | {f"OTEL_EXPORTER_OTLP_{signal.upper()}_{part}" for signal in SIGNALS for part in OTLP_PARTS}


def _is_otlp_part(setting: Setting[object]) -> bool:
    return setting.env in {f"OTEL_EXPORTER_OTLP_{part}" for part in OTLP_PARTS}


def _default(setting: Setting[object]) -> str:
    value = setting.default_text()
    return f"`{value}` {setting.unit}".rstrip() if value else ""


def metrics_page() -> str:
    """Every metric of otelkit's own, under its name here and in Prometheus."""
    lines = [
        "# Metrics",
        "",
        _NOTE,
        "",
        "The metrics that otelkit records by itself, apart from those of the application and of contrib"
        " instrumentations. The name in Prometheus is what its OTLP endpoint makes of it with"
        " `UnderscoreEscapingWithSuffixes`; a histogram's series add `_count`, `_sum` and `_bucket` to it, and dots in"
        " labels become underscores. A label is there where it has a value.",
        "",
    ]
    rows = [
        (
            f"`{metric.name}`",
            f"`{metric.prometheus_name}`",
            metric.kind.replace("_", " "),
            f"`{metric.unit}`",
            ", ".join(f"`{label}`" for label in metric.labels),
            _text(metric.description),
        )
        for metric in METRICS
    ]
    lines += _table(("metric", "in Prometheus", "kind", "unit", "labels", "what it measures"), rows)
    lines += ["", "## Buckets", "", "Upper bounds of the histograms' buckets, in the unit of the metric.", ""]
    buckets: dict[tuple[float, ...], list[Metric]] = {}
    for metric in METRICS:
        if metric.buckets is not None:
            buckets.setdefault(metric.buckets, []).append(metric)
    bounded = [
        (", ".join(f"{bound:g}" for bound in bounds), ", ".join(f"`{metric.name}`" for metric in metrics))
        for bounds, metrics in buckets.items()
    ]
    return _page([*lines, *_table(("bounds", "metrics"), bounded)])


def drops_page() -> str:
    """Every reason why a record may be dropped, with the string behind it in the code."""
    lines = [
        "# Drop reasons",
        "",
        _NOTE,
        "",
        "Why a span, a log record or a metric data point was not delivered. The name is the key in"
        " `FlushReport.dropped` and in `otelkit.status()`, stands in the column `dropped` of `otelkit status`, and is"
        " the label `otelkit.reason` of the metric `otelkit.records`. [Delivery](../delivery.md) has the whole ledger.",
        "",
    ]
    documented = _documented_members(DropReason)
    rows = [(f"`{reason.value}`", _text(documented[reason.name])) for reason in DropReason]
    return _page([*lines, *_table(("reason", "what happened"), rows)])


def _documented_members(enumeration: type) -> Mapping[str, str]:
    """The string behind each member: Python keeps none of them, the source does."""
    body = ast.parse(inspect.getsource(enumeration)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for member, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(member.targets[0], ast.Name)
            found[member.targets[0].id] = " ".join(str(after.value.value).split())
    return found


_API = (
    ("Start and end", ("bootstrap", "shutdown", "flush", "status", "Telemetry", "FlushReport")),
    ("Spans", ("span", "traced")),
    ("Metrics", ("count", "distribution", "gauge", "observe", "Registration", "metrics", "metrics_app")),
    ("Events and exceptions", ("event", "exception")),
    ("The request's context", ("bind", "unbind", "message_context")),
    ("Tests", ("testing",)),
    ("Errors", ("OtelkitError", "ConfigurationError", "AlreadyConfigured", "UnsupportedLibrary")),
)
# What a class or module shows to its users.
_MEMBERS: Mapping[str, Sequence[str]] = {
    "Telemetry": ("service", "flush", "shutdown", "status"),
    "Registration": ("close",),
    "message_context": ("with_context", "process"),
    "metrics": ("counter", "up_down_counter", "histogram", "gauge", "Counter", "Histogram", "Gauge"),
    "testing": ("capture", "Captured", "Spans", "CapturedSpan", "Logs", "CapturedLog", "Metrics", "Distribution"),
}
_ALIASES = ("Attributes", "AttributeValue", "Kind", "Severity", "Value")


def api_page() -> str:
    """Every public name with its signature and what it promises."""
    lines = [
        "# API",
        "",
        _NOTE,
        "",
        "Everything that `otelkit` exports; nothing else is public. A parameter that begins with `_` is an option, so"
        " that attributes may have any name. All of it is typed.",
    ]
    for title, names in _API:
        lines += ["", f"## {title}"]
        for name in names:
            lines += _entry(f"otelkit.{name}", getattr(otelkit, name), _MEMBERS.get(name, ()))
    lines += ["", "## Types in the signatures", ""]
    return _page([*lines, *_code([f"{name} = {_alias(name)}" for name in _ALIASES])])


def api_names() -> list[str]:
    """The names that the page describes."""
    return [name for _, names in _API for name in names]


def _entry(title: str, thing: object, members: Sequence[str], level: str = "###") -> list[str]:
    lines = ["", f"{level} {title}"]
    if isinstance(thing, type):
        lines += ["", *_code(_class(thing))]
    elif isinstance(thing, property):
        assert thing.fget is not None
        lines += ["", *_code([f"{title.rpartition('.')[2]}: {inspect.signature(thing.fget).return_annotation}"])]
    elif not isinstance(thing, types.ModuleType):
        assert callable(thing)
        lines += ["", *_code([_signature(title.rpartition(".")[2], thing)])]
    lines += ["", *_docstring(thing)]
    for member in members:
        value = getattr(thing, member)
        lines += _entry(f"{title}.{member}", value, (), level + "#")
        if isinstance(value, type):
            lines += _members(value)
    return lines


def _class(thing: type) -> list[str]:
    """Its head, and the fields of a dataclass."""
    fields: Iterable[str] = getattr(thing, "__dataclass_fields__", ())
    lines = [f"    {field}: {thing.__annotations__[field]}" for field in fields]
    bases = f"({', '.join(base.__name__ for base in thing.__bases__)})" if issubclass(thing, Exception) else ""
    return [f"class {thing.__name__}{bases}" + ":" * bool(lines), *lines]


def _members(thing: type) -> list[str]:
    """A table of its properties and methods."""
    rows = []
    for name, value in vars(thing).items():
        if name.startswith("_") or not inspect.getdoc(value):
            continue
        if isinstance(value, property):
            rows.append((f"`{name}`", " ".join(filter(None, _docstring(value)))))
        elif inspect.isfunction(value):
            rows.append((f"`{_signature(name, value, annotated=False)}`", " ".join(filter(None, _docstring(value)))))
    return ["", *_table(("member", "what it is"), rows)] if rows else []


def _docstring(thing: object) -> list[str]:
    """Its paragraphs, each as one line, with empty lines between."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", inspect.getdoc(thing) or ""):
        lines += ["", _text(" ".join(paragraph.split()))]
    return lines[1:]


def _signature(name: str, function: Callable[..., object], *, annotated: bool = True) -> str:
    """As the source has it: annotations are texts there, which `str(signature)` would put in quotes."""
    signature = inspect.signature(function)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    parts: list[str] = []
    for place, parameter in enumerate(parameters):
        before = parameters[place - 1].kind if place else None
        after = parameters[place + 1].kind if place + 1 < len(parameters) else None
        opens = parameter.kind is parameter.KEYWORD_ONLY
        if opens and before not in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL):
            parts.append("*")
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else "*" * (parameter.kind is parameter.VAR_POSITIONAL)
        text = f"{stars}{parameter.name}"
        if annotated and parameter.annotation is not parameter.empty:
            text += f": {parameter.annotation}"
        if parameter.default is not parameter.empty:
            default = parameter.default
            text += f' = "{default}"' if isinstance(default, str) else f" = {default!r}"
        parts.append(text)
        if parameter.kind is parameter.POSITIONAL_ONLY and after is not parameter.POSITIONAL_ONLY:
            parts.append("/")
    returns = f" -> {signature.return_annotation}" if annotated else ""
    line = f"{name}({', '.join(parts)}){returns}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){returns}"])


def _alias(name: str) -> str:
    """What a type's short name stands for, from the module that has it."""
    from otelkit.api import attributes, events, spans
    from otelkit.signals import correlation

    for module in (attributes, spans, events, correlation):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
                return ast.unparse(node.value).replace("'", '"')
    raise LookupError(name)


# -- Markdown


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _code(lines: Iterable[str]) -> list[str]:
    return ["```python", *lines, "```"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _text(sentence: str) -> str:
    """A sentence with what Markdown would take for its own kept as it is; what stands in backticks is left alone."""
    parts = sentence.split("`")
    parts[::2] = [re.sub(r"([<*|])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "drops.md": drops_page,
    "api.md": api_page,
}
"""The generated pages by their file names."""


def stale() -> list[str]:
    """The names of the pages whose file differs from what the code says."""
    return [
        name
        for name, make in PAGES.items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != make()
    ]


def main() -> int:
    """Writes the pages, or with `--check` names the stale ones and returns 1."""
    if "--check" in sys.argv[1:]:
        found = stale()
        for name in found:
            sys.stderr.write(f"docs/reference/{name} is stale: run `make docs`\n")
        return int(bool(found))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
