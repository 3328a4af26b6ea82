"""The rules of the design that can be read off the source."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import otelkit
from otelkit.semconv import TABLE
from tests.support.process import run_python

# One worker reads the source once, and each rule is one test that names all who break it.
pytestmark = pytest.mark.xdist_group("architecture")

ROOT = Path(otelkit.__file__).resolve().parent
MODULES = {
    ".".join(("otelkit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
LOW = ("engine", "signals", "delivery", "runtime")
HIGH = ("instrumentation", "viewer", "stack", "slo", "cli")
LONGEST_MODULE = 400
PUBLIC_IN_ALL_BUT_NAME = ("opentelemetry._logs", "opentelemetry.sdk._logs")


@cache
def tree(module: str) -> ast.Module:
    """A module's syntax."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def nodes(module: str) -> tuple[ast.AST, ...]:
    """All that a module's syntax consists of."""
    return tuple(ast.walk(tree(module)))


@cache
def imports(module: str) -> tuple[tuple[str, str, int], ...]:
    """Every import of a module, also those within functions: where from, which name (empty for all), the line."""
    return tuple(_imports(module))


def _imports(module: str) -> Iterator[tuple[str, str, int]]:
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in nodes(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", node.lineno
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join((*base, source)) if source else ".".join(base)
            for alias in node.names:
                yield source, alias.name, node.lineno


def imported_modules(module: str) -> set[str]:
    """The modules of otelkit that a module imports, by their full names."""
    found = set()
    for source, name, _ in imports(module):
        full = f"{source}.{name}" if name else source
        found.add(full if full in MODULES else source)
    return {name for name in found if name == "otelkit" or name.startswith("otelkit.")}


def part(module: str) -> str:
    """The folder or top module that a module belongs to: `engine` of `otelkit.engine.tracing`."""
    return module.split(".")[1] if "." in module else ""


def test_the_way_of_a_record_points_one_way() -> None:
    """Engine, signals, delivery and runtime know nothing of what stands above them, nor import the whole of otelkit."""
    low = [module for module in MODULES if part(module) in LOW]
    assert low
    above = (*HIGH, "wiring", "auto", "distro", "testing")
    wrong = [
        f"{module} imports {name}"
        for module in low
        for name in sorted(imported_modules(module))
        if name == "otelkit" or part(name) in above
    ]
    assert not wrong, wrong


def test_nobody_sees_the_wiring_but_those_who_start_it() -> None:
    """Else everything would hang together with everything."""
    allowed = ("auto", "cli", "testing", "distro", "", "wiring")
    wrong = [m for m in MODULES if part(m) not in allowed and "otelkit.wiring" in imported_modules(m)]
    assert not wrong, wrong


def opentelemetry_aliases(module: str) -> dict[str, str]:
    """Local names that stand for modules or objects of OpenTelemetry."""
    found = {}
    for node in nodes(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "opentelemetry":
                    found[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else "opentelemetry"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "opentelemetry":
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def is_private(dotted: str) -> bool:
    """Whether a dotted name of OpenTelemetry has an underscore name in it that is not public in all but name."""
    for allowed in PUBLIC_IN_ALL_BUT_NAME:
        if dotted == allowed or dotted.startswith(f"{allowed}."):
            dotted = dotted[len(allowed) :]
    return any(name.startswith("_") and not name.startswith("__") for name in dotted.split("."))


def private_names(module: str) -> Iterator[str]:
    """Where a module imports or reaches private names of OpenTelemetry."""
    for source, name, line in imports(module):
        if source.split(".")[0] == "opentelemetry" and is_private(f"{source}.{name}".rstrip(".")):
            yield f"{module}:{line}: {source}.{name}"
    aliases = opentelemetry_aliases(module)
    for node in nodes(module):
        names: list[str] = []
        at: ast.expr = node if isinstance(node, ast.Attribute) else ast.Name("")
        while isinstance(at, ast.Attribute):
            names.append(at.attr)
            at = at.value
        if names and isinstance(at, ast.Name) and at.id in aliases:
            dotted = ".".join((aliases[at.id], *reversed(names)))
            if is_private(dotted):
                yield f"{module}:{getattr(node, 'lineno', 0)}: {dotted}"


def test_only_public_names_of_opentelemetry_are_imported_or_reached() -> None:
    """Private ones move with every release (1.45 removed one and broke another library)."""
    wrong = [where for module in MODULES for where in private_names(module)]
    assert not wrong, wrong


def test_the_rule_on_private_names_finds_them() -> None:
    """The check itself can fail."""
    assert is_private("opentelemetry.sdk.trace._Span")
    assert is_private("opentelemetry._events.get_logger")
    assert is_private("opentelemetry.sdk._logs._internal.Logger")
    assert not is_private("opentelemetry._logs.get_logger")
    assert not is_private("opentelemetry.sdk._logs.export.LogRecordExporter")
    assert not is_private("opentelemetry.trace.__name__")


def test_a_module_is_short_enough_to_be_read() -> None:
    """At most 400 lines."""
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lines.items() if length > LONGEST_MODULE} == {}


def test_a_module_says_what_it_is_for() -> None:
    """One sentence at its head, and a name that is not a bucket."""
    buckets = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}
    for module in MODULES:
        docstring = ast.get_docstring(tree(module))
        assert docstring, module
        assert docstring.splitlines()[0].rstrip().endswith((".", ":", ";", ",")) or "\n" in docstring, module
        assert not set(module.split(".")) & buckets, module


DOCUMENTED = [
    "AlreadyConfigured",
    "ConfigurationError",
    "FlushReport",
    "OtelkitError",
    "Registration",
    "Telemetry",
    "UnsupportedLibrary",
    "bind",
    "bootstrap",
    "count",
    "distribution",
    "event",
    "exception",
    "flush",
    "gauge",
    "message_context",
    "metrics",
    "metrics_app",
    "observe",
    "shutdown",
    "span",
    "status",
    "testing",
    "traced",
    "unbind",
]


def test_the_public_names_are_those_of_the_design() -> None:
    """No more, no fewer, sorted, and each of them there."""
    assert otelkit.__all__ == DOCUMENTED
    for name in otelkit.__all__:
        found = getattr(otelkit, name)
        assert found.__doc__, name
    others = {
        name
        for name, value in vars(otelkit).items()
        if name.isidentifier()
        and not name.startswith("_")
        and name not in DOCUMENTED
        and not hasattr(value, "__path__")
    }
    modules = {name for name in others if f"otelkit.{name}" in MODULES}
    assert others == modules, f"public by accident: {others - modules}"


def test_every_metric_of_instrumentation_comes_from_the_one_table() -> None:
    """No instrument is made with a name of its own outside of instruments.py and the API for applications."""
    makers = {
        "create_counter",
        "create_up_down_counter",
        "create_histogram",
        "create_gauge",
        "create_observable_counter",
        "create_observable_up_down_counter",
        "create_observable_gauge",
    }
    wrong = [
        f"{module}:{node.lineno}"
        for module in MODULES
        if part(module) not in ("api", "engine") and module != "otelkit.instrumentation.instruments"
        for node in nodes(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in makers
    ]
    assert not wrong, wrong


def test_every_metric_of_the_table_is_used() -> None:
    """A row that nobody records would be a promise in the documentation."""
    text = "\n".join(path.read_text(encoding="utf-8") for name, path in MODULES.items() if name != "otelkit.semconv")
    constants = {
        target.id
        for node in tree("otelkit.semconv").body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name)
        and isinstance(getattr(importlib.import_module("otelkit.semconv"), target.id), type(TABLE[0]))
    }
    assert len(constants) == len(TABLE)
    assert sorted(name for name in constants if name not in text) == []


HEAVY = (
    "fastapi",
    "starlette",
    "sqlalchemy",
    "redis",
    "celery",
    "kombu",
    "grpc",
    "rich",
    "typer",
    "urllib3",
    "duckdb",
    "pyarrow",
    "uvicorn",
)


def test_importing_and_starting_otelkit_imports_no_library_of_the_application(tmp_path: Path) -> None:
    """A service that has Celery installed and never imports it goes on without it."""
    source = f"""
        import sys
        import otelkit
        print(sorted(set({HEAVY!r}) & set(sys.modules)))
        otelkit.bootstrap("x")
        print(sorted(set({HEAVY!r}) & set(sys.modules)))
        otelkit.shutdown(0.0)
    """
    finished = run_python(source, cwd=tmp_path, environ={"OTELKIT_RUNTIME_METRICS": "true"})
    assert finished.out.splitlines() == ["[]", "[]"]
