"""What the documentation says is what the code says and does."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import otelkit
from otelkit.config.not_honoured import NOT_HONOURED
from otelkit.config.settings import INSTRUMENT_PREFIX, TABLE
from otelkit.delivery.ledger import DropReason
from otelkit.instrumentation.library import LIBRARIES
from otelkit.runtime import lifecycle
from otelkit.semconv import TABLE as METRICS
from tests.support.process import run_python
from tests.support.sink import Sink
from tools import generate_docs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md"))
READ_BY_PEOPLE = [*PAGES, ROOT / "README.md", *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY"))]
HERE = [path for path in (*READ_BY_PEOPLE, ROOT / "CHANGELOG.md") if path.exists()]
# Variables of the demo's and the stack's own programs, and of what the pages compare with.
OTHERS = re.compile(
    r"OTELKIT_STACK_BIN|OTEL_SEMCONV_STABILITY_OPT_IN|OTEL_PYTHON_(?:CONTEXT|DISTRO|CONFIGURATOR)"
    r"|OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_(?:REQUEST|RESPONSE)"
    r"|OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS"
)
# A function, or a file with or without its folder.
NAMED_TESTS = re.compile(r"`(?:tests/\w+/)?(test_\w+(?:\.py)?)`")


def name_of(page: Path) -> str:
    """How a page is called in a test's name."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced code of a language in a page."""
    for block in re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield block[1]


@pytest.mark.parametrize("name", sorted(generate_docs.PAGES))
def test_the_reference_is_that_of_the_code(name: str) -> None:
    """A page that is not what `make docs` would write is stale."""
    written = (generate_docs.FOLDER / name).read_text(encoding="utf-8")
    assert written == generate_docs.PAGES[name](), f"docs/reference/{name} is stale: run `make docs`"


def test_the_reference_leaves_nothing_out() -> None:
    """Every setting, every standard variable without effect, every metric, every drop reason, every public name."""
    settings = generate_docs.PAGES["settings.md"]()
    assert generate_docs.settings_shown() == set(TABLE)
    assert all(f"`{row.env}`" in settings for row in NOT_HONOURED)
    metrics = generate_docs.PAGES["metrics.md"]()
    assert all(f"| `{metric.name}` | `{metric.prometheus_name}` |" in metrics for metric in METRICS)
    drops = generate_docs.PAGES["drops.md"]()
    assert all(re.search(rf"^\| `{reason.value}` \| \S", drops, re.MULTILINE) for reason in DropReason)
    assert sorted(generate_docs.api_names()) == sorted(otelkit.__all__)


def test_durations_are_documented_in_the_unit_that_is_read() -> None:
    """Five seconds are 5000 in a variable of milliseconds."""
    settings = generate_docs.PAGES["settings.md"]()
    assert "| `OTEL_BSP_SCHEDULE_DELAY` | `bsp_schedule_delay_s` | `5000` ms |" in settings
    assert "| `OTELKIT_SHUTDOWN_TIMEOUT_S` | `shutdown_timeout_s` | `2` s |" in settings


@pytest.mark.parametrize("page", HERE, ids=name_of)
def test_a_link_leads_somewhere(page: Path) -> None:
    """Within the repository: a file that is there and, after a #, a heading of it."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (heading and heading not in headings(there)):
            broken.append(target)
    assert broken == []


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_in_the_index() -> None:
    """Who opens docs/README.md finds them all; those of a folder that has a README of its own, in that."""
    missing = []
    for page in PAGES:
        within = page.parent / "README.md"
        index = within if within.exists() and page != within else ROOT / "docs" / "README.md"
        named = f"({page.relative_to(index.parent)})" in index.read_text(encoding="utf-8")
        if page != index and not named:
            missing.append(name_of(page))
    assert missing == []


@pytest.mark.parametrize("page", HERE, ids=name_of)
def test_a_variable_that_is_named_exists(page: Path) -> None:
    """No setting in the text that the code does not read or refuse by name."""
    known = {*TABLE, *(row.env for row in NOT_HONOURED)}
    found = set(re.findall(r"\b(?:OTELKIT|OTEL)_[A-Z0-9_]*[A-Z0-9]\b", page.read_text(encoding="utf-8")))
    chosen = {name for name in found if name.startswith(INSTRUMENT_PREFIX)} | {INSTRUMENT_PREFIX.rstrip("_")}
    assert sorted(name for name in found - known - chosen if not OTHERS.fullmatch(name)) == []


@pytest.mark.parametrize("page", HERE, ids=name_of)
def test_a_test_that_is_named_exists(page: Path) -> None:
    """Where a page says which test holds a row."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    functions = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = NAMED_TESTS.findall(page.read_text(encoding="utf-8"))
    missing = [name for name in named if f"def {name}(" not in functions and name not in {path.name for path in files}]
    assert missing == []


def test_every_fault_row_is_in_the_table_of_reliability() -> None:
    """And none that has no file."""
    table = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "tests" / "faults").glob("test_f*.py")}
    assert set(re.findall(r"test_f\d\d_\w+\.py", table)) == files
    for number, named in re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", table, re.MULTILINE):
        if named.startswith("test_"):
            assert all(name.startswith(f"test_f{int(number):02}_") for name in named.split(", ")), named


@pytest.mark.parametrize("page", HERE, ids=name_of)
def test_python_in_a_page_is_python_and_calls_what_there_is(page: Path) -> None:
    """It parses, and of otelkit it uses public names only. The signatures of the reference are no programs."""
    if page.parent == generate_docs.FOLDER:
        return
    for source in blocks(page, "python"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "otelkit":
                assert node.attr in otelkit.__all__, source


def test_the_session_of_the_readme_prints_what_the_readme_says(sink: Sink, tmp_path: Path) -> None:
    """Run as it stands, with a collector."""
    source, printed = next(blocks(ROOT / "README.md", "python")), next(blocks(ROOT / "README.md", "text"))
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_RUNTIME_METRICS": "true"}
    finished = run_python(source, cwd=tmp_path, environ=environ)
    assert without_numbers(finished.out) == without_numbers(printed)
    assert [span.name for span in sink.spans] == ["price.quote"]


def test_the_example_with_objects_does_what_the_page_says(sink: Sink, tmp_path: Path) -> None:
    """Run as it stands: the span is printed and exported, the label that the view leaves out is in no series."""
    (source,) = [found for found in blocks(ROOT / "docs" / "bootstrap.md", "python") if "span_processors" in found]
    finished = run_python(source, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
    assert finished.out.count('"name": "order.place"') == 1
    assert [span.name for span in sink.spans] == ["order.place"]
    assert sink.total("orders.placed", plan="pro") == 1
    assert not [labels for _, labels in sink.series("orders.placed") if "user" in dict(labels)]


def without_numbers(text: str) -> str:
    """What is printed but how many points a machine's runtime metrics have."""
    return re.sub(r"\d+", "N", text).strip()


def test_the_page_about_the_life_cycle_has_the_rows_of_the_code() -> None:
    """One row a kind of process, with the same words in the same order, and a test in each."""
    page = rows((ROOT / "docs" / "lifecycle.md").read_text(encoding="utf-8"))
    code = rows(inspect.getdoc(lifecycle) or "")
    assert len(code) >= 20
    assert [row[:3] for row in page] == code
    assert [row[0] for row in page if not NAMED_TESTS.findall(row[3])] == []


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows."""
    lines = re.findall(r"^\| (?!process \|)(.+) \|$", text, re.MULTILINE)
    return [line.split(" | ") for line in lines]


def test_the_page_about_instrumentation_has_every_library_and_its_versions() -> None:
    """The supported versions are those of the registry."""
    page = (ROOT / "docs" / "instrumentation" / "README.md").read_text(encoding="utf-8")
    missing = [library for library in LIBRARIES if f"| `{library.name}` | {library.range} |" not in page]
    assert missing == []
