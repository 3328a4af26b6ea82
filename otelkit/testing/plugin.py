"""The pytest plugin: the fixture `telemetry` and the mark `telemetry` with its budgets.

Every pytest run of everyone who has otelkit installed loads this module: it imports nothing but pytest until a test
asks for telemetry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from otelkit.testing.capturing import Captured
    from otelkit.testing.spans import CapturedSpan

_MARK = (
    "telemetry(max_queries=None, max_spans=None, max_duration_s=None): captures what the test records, as the fixture"
    " `telemetry` does, and fails it where it spends more: database calls, spans, seconds of a root span"
)
_captured: pytest.StashKey[Captured] = pytest.StashKey()
_spent_before: pytest.StashKey[set[CapturedSpan]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Makes the mark known."""
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def telemetry(request: pytest.FixtureRequest) -> Iterator[Captured]:
    """What the test's process records from here on: `.spans`, `.metrics`, `.logs`, `.tree()`; nothing is exported."""
    from otelkit.testing.capturing import capture

    with capture() as captured:
        request.node.stash[_captured] = captured
        yield captured


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test with the mark has the fixture."""
    names: list[str] | None = getattr(item, "fixturenames", None)
    if names is not None and "telemetry" not in names and item.get_closest_marker("telemetry") is not None:
        names.insert(0, "telemetry")


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What fixtures spent is not the test's."""
    captured = item.stash.get(_captured, None)
    if captured is not None:
        item.stash[_spent_before] = set(captured.spans)


@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Holds a test that passed against its budget."""
    captured = item.stash.get(_captured, None)
    marks = [(mark.args, mark.kwargs) for mark in item.iter_markers("telemetry")]
    if captured is None or not any(args or kwargs for args, kwargs in marks):
        return
    from otelkit.testing.budgets import Budget

    try:
        budget = Budget.of(marks)
    except ValueError as error:
        pytest.fail(f"@pytest.mark.telemetry: {error}", pytrace=False)
    before = item.stash[_spent_before]
    excess = budget.excess(captured.spans.where(lambda span: span not in before))
    if excess:
        pytest.fail("\n".join(["the telemetry budget is exceeded:", *excess, "", captured.tree()]), pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Shows what was captured under a test that failed, unless its message has it."""
    captured = item.stash.get(_captured, None)
    if captured is None or call.when != "call" or call.excinfo is None:
        return
    if isinstance(call.excinfo.value, pytest.skip.Exception):
        return
    tree = captured.tree()
    if tree not in str(call.excinfo.value):
        item.add_report_section("call", "telemetry", tree)


def pytest_assertrepr_compare(op: str, left: Any, right: Any) -> list[str] | None:
    """Under a failed comparison of something captured, what else there is."""
    for side in (left, right):
        if type(side).__module__.startswith("otelkit.testing.") and hasattr(side, "explain"):
            return [f"{left!r} {op} {right!r}", "", *side.explain().splitlines()]
    return None
