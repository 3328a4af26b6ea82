"""The service map, queries and the telemetry's own health."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.process import run_python
from tests.viewer.backend import Backend
from tests.viewer.browser.conftest import Windows
from tests.viewer.browser.telemetry import REPORT, STATEMENT, hex_trace

pytestmark = pytest.mark.xdist_group("viewer-browser")
OTHERS = ("logs", "errors", "metrics", "map", "queries", "health")


@pytest.mark.slow
def test_the_map_shows_who_calls_whom_and_leads_to_traces(shop: Backend, windows: Windows) -> None:
    """Callers left of whom they call; the routes below, each leading to its traces."""
    window = windows(shop)
    page = window.open("/map")
    left = {
        name: page.locator(f'[data-node="{name}"]').evaluate("(node) => node.getBoundingClientRect().x")
        for name in ("shop", "pricing", "worker")
    }
    assert left["shop"] < min(left["pricing"], left["worker"])
    expect(page.locator('[data-node="shop"]')).to_contain_text("errors")
    window.picture("map")
    routes = page.get_by_role("region", name="Routes")
    routes.get_by_role("link", name="/checkout").click()
    expect(page.locator("[data-trace]")).to_have_count(1)
    page.go_back()
    page.locator(".map").get_by_role("link", name="pricing").click()
    expect(page.get_by_role("combobox", name="Filter")).to_have_value("service:pricing")


def test_queries_name_the_n_plus_one_and_lead_to_its_trace(shop: Backend, windows: Windows) -> None:
    """How often at most, and the worst trace."""
    window = windows(shop)
    page = window.open("/queries")
    repeated = page.get_by_role("region", name="N+1", exact=True)
    expect(repeated).to_contain_text("x 37")
    window.picture("queries")
    repeated.get_by_role("link", name=STATEMENT).click()
    expect(page.locator("h1")).to_have_text("GET /report")
    assert hex_trace(REPORT) in page.url


PROCESS = """
    import otelkit
    otelkit.bootstrap("ledgered")
    with otelkit.span("work"):
        pass
    assert otelkit.flush(10.0).ok
    otelkit.shutdown(5.0)
"""


@pytest.mark.slow
def test_health_shows_each_process_with_its_ledger(empty: Backend, windows: Windows, tmp_path: Path) -> None:
    """What it accepted, delivered and dropped; what this viewer took in."""
    run_python(PROCESS, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": empty.url})
    empty.wait_for_rows(spans=1, points=1, logs=3)
    window = windows(empty)
    page = window.open("/health")
    process = page.locator("[data-process]").filter(has_text="ledgered")
    expect(process).to_have_count(1)
    expect(process).to_contain_text("nothing dropped")
    expect(process.get_by_role("group", name="Ledger")).to_contain_text("traces")
    expect(process).to_contain_text("ended")
    expect(process).to_contain_text("spool can be written")
    expect(process.get_by_role("group", name="Instrumented")).to_contain_text(
        "the default where otelkit knows the library"
    )
    expect(page.get_by_role("region", name="This viewer")).to_contain_text(empty.url)
    window.picture("health")


@pytest.mark.slow
def test_a_process_without_a_ledger_is_not_said_to_lose_nothing(shop: Backend, windows: Windows) -> None:
    """Other SDKs do not count what they drop."""
    window = windows(shop)
    window.open("/health")
    expect(window.find("[data-process]").filter(has_text="pricing").locator("header")).to_contain_text(
        "tells no ledger"
    )


@pytest.mark.slow
def test_the_search_box_completes_what_was_received(shop: Backend, windows: Windows) -> None:
    """Keys, then operators, then values, by the keyboard alone."""
    window = windows(shop)
    page = window.open("/traces")
    page.locator("[data-trace]").first.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("serv")
    options = page.get_by_role("listbox", name="Completions").get_by_role("option")
    expect(options.first).to_contain_text("service")
    page.keyboard.press("Tab")
    expect(options.first).to_contain_text("service:")
    page.keyboard.press("Tab")
    expect(options.filter(has_text="importer")).to_be_visible()
    window.picture("completion")
    page.keyboard.type("imp")
    expect(options).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("[data-trace]")).to_have_count(1)
    expect(page.locator("[data-trace]")).to_contain_text("import catalogue")


@pytest.mark.slow
def test_times_are_local_or_utc_as_chosen(shop: Backend, windows: Windows) -> None:
    """One button for all times of the page; the choice stays."""
    window = windows(shop)
    page = window.open("/traces")
    first = page.locator("[data-trace] time").first
    first.wait_for()
    local = first.inner_text()
    page.get_by_role("button", name="Time zone").click()
    expect(page.get_by_role("button", name="Time zone: UTC")).to_be_visible()
    assert first.inner_text()[:5] != local[:5]
    page.reload()
    expect(page.get_by_role("button", name="Time zone: UTC")).to_be_visible()


@pytest.mark.slow
def test_the_theme_is_the_system_s_until_another_is_chosen(shop: Backend, windows: Windows) -> None:
    """Chosen once, it is there before the page is drawn the next time."""
    window = windows(shop, theme="dark")
    page = window.open("/traces")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Theme: system").click()
    page.wait_for_function(f"{background} !== '{dark}'")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


@pytest.mark.parametrize("view", ["traces", *(pytest.param(view, marks=pytest.mark.slow) for view in OTHERS)])
def test_an_empty_view_names_the_command_for_this_port(shared: Backend, windows: Windows, view: str) -> None:
    """Ready to be copied."""
    window = windows(shared)
    page = window.open(f"/{view}")
    expect(page.locator(".command").first).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={shared.url} otelkit run")
