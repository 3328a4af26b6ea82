"""SQL in the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.viewer.backend import Backend, running_backend
from tests.viewer.browser.conftest import Windows
from tests.viewer.browser.telemetry import CHECKOUT, hex_trace

pytestmark = pytest.mark.xdist_group("viewer-browser")


def test_a_query_is_run_kept_in_the_address_and_leads_to_traces(shop: Backend, windows: Windows) -> None:
    """By the button or ctrl + enter; what DuckDB does not understand is said."""
    window = windows(shop)
    page = window.open("/sql")
    query = page.get_by_role("textbox", name="One SELECT")
    query.fill(f"SELECT service, name, trace_id FROM spans WHERE trace_id = '\\x{hex_trace(CHECKOUT)[:2]}'::BLOB")
    page.get_by_role("button", name="Run").click()
    result = page.get_by_role("region", name="Result")
    expect(result.get_by_role("heading")).to_have_text("0 rows")
    query.fill("SELECT service, name, trace_id FROM spans WHERE name LIKE 'POST%' ORDER BY start_ns LIMIT 1")
    query.press("Control+Enter")
    expect(result.get_by_role("heading")).to_have_text("1 row")
    page.reload()
    expect(result.get_by_role("columnheader").first).to_have_text("service")
    result.get_by_role("link").click()
    expect(page.locator("[data-span]").first).to_be_visible()


@pytest.mark.slow
def test_the_examples_are_answered(shop: Backend, windows: Windows) -> None:
    """Each is one click."""
    window = windows(shop)
    page = window.open("/sql")
    examples = page.locator("form button[type=button]")
    result = page.get_by_role("region", name="Result")
    for n in range(examples.count()):
        examples.nth(n).click()
        expect(result.locator("tbody tr").first).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)
        if n == 0:
            window.picture("sql")
            assert window.axe() == []


@pytest.mark.slow
def test_a_mistake_is_said(shop: Backend, windows: Windows) -> None:
    """With DuckDB's own words, and what could have been meant."""
    window = windows(shop)
    page = window.open("/sql?query=SELECT+servise+FROM+spans")
    expect(page.get_by_role("alert")).to_contain_text("servise")
    window.wrong = [each for each in window.wrong if "400" not in each]  # the browser's console tells of each


@pytest.mark.slow
def test_there_is_no_sql_beyond_loopback(windows: Windows, tmp_path: Path) -> None:
    """No tab, and its address says why."""
    with running_backend(tmp_path, "--host", "0.0.0.0", "--token", "t0ken") as backend:
        window = windows(backend)
        page = window.open("/sql?token=t0ken")
        expect(page.locator("main")).to_contain_text("loopback alone")
        expect(page.get_by_role("navigation", name="Pages").get_by_role("link", name="SQL")).to_have_count(0)
