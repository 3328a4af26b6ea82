"""The list of traces: what came in, live, filtered, by keyboard."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.viewer.backend import Backend, span, spans_request
from tests.viewer.browser.conftest import Windows
from tests.viewer.browser.telemetry import CHECKOUT, REPORT, hex_trace

pytestmark = pytest.mark.xdist_group("viewer-browser")


def test_the_newest_traces_are_listed_with_their_marks(shop: Backend, windows: Windows) -> None:
    """Name, status, services, errors and N+1 of each; the front page is this list."""
    window = windows(shop)
    window.open("/")
    expect(window.page).to_have_url(f"{shop.url}/traces")
    row = window.find(f'[data-trace="{hex_trace(CHECKOUT)}"]')
    expect(row).to_contain_text("POST /checkout")
    expect(row).to_contain_text("500")
    expect(row.get_by_role("img", name="with")).to_have_attribute("aria-label", "with pricing, worker")
    expect(window.find(f'[data-trace="{hex_trace(REPORT)}"]')).to_contain_text("N+1")
    expect(window.find(".bar-end")).to_contain_text("Europe/Berlin UTC+1")
    expect(row.locator("time")).to_contain_text("ago")
    window.picture("traces")


@pytest.mark.slow
def test_a_filter_is_in_the_address_and_survives_a_reload(shop: Backend, windows: Windows) -> None:
    """Typed with the slash key, shared as a link; a wrong one says where it is wrong."""
    window = windows(shop)
    page = window.open("/traces")
    page.locator("[data-trace]").first.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("service:shop status:error")
    page.keyboard.press("Enter")
    expect(page.locator("[data-trace]")).to_have_count(1)
    assert "q=service%3Ashop+status%3Aerror" in page.url
    page.reload()
    expect(page.locator("[data-trace]")).to_have_count(1)
    expect(page.get_by_role("combobox", name="Filter")).to_have_value("service:shop status:error")
    page.get_by_role("link", name="POST /checkout").click()
    page.locator(".waterfall").wait_for()
    page.keyboard.press("Escape")
    expect(page.get_by_role("combobox", name="Filter")).to_have_value("service:shop status:error")
    page.get_by_label("Service", exact=True).select_option("pricing")
    expect(page.get_by_role("combobox", name="Filter")).to_have_value("status:error service:pricing")
    page.get_by_role("button", name="Clear the filter").click()
    expect(page.locator("[data-trace]").nth(30)).to_be_attached()


def test_a_wrong_filter_says_what_is_wrong(shop: Backend, windows: Windows) -> None:
    """The message of the backend, at the search box."""
    window = windows(shop)
    page = window.open("/traces?q=%28service%3Ashop")
    expect(page.locator(".said")).to_be_visible()
    window.wrong.clear()  # the browser's own line about the status 400


@pytest.mark.slow
def test_new_traces_stream_in_and_wait_while_paused(empty: Backend, windows: Windows) -> None:
    """Without a reload; paused, the list stands still and counts what waits; resumed, it is there."""
    window = windows(empty)
    page = window.open("/traces")
    expect(page.locator(".empty")).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={empty.url} otelkit run")
    window.picture("empty")
    expect(page.locator("[data-pause]")).to_have_text("Live")
    page.wait_for_timeout(300)
    empty.send(spans_request(span("first", trace=1, start_s=time.time())))
    expect(page.locator("[data-trace]")).to_have_count(1)
    page.keyboard.press("p")
    expect(page.locator("[data-pause]")).to_have_text("Paused")
    empty.send(spans_request(span("second", trace=2, start_s=time.time())))
    expect(page.locator("[data-pause]")).to_have_text("Paused · 1 new")
    expect(page.locator("[data-trace]")).to_have_count(1)
    page.keyboard.press("p")
    expect(page.locator("[data-trace]").first).to_contain_text("second")


@pytest.mark.slow
def test_the_keyboard_walks_the_list_and_opens_a_trace(shop: Backend, windows: Windows) -> None:
    """j and k move, enter opens, esc goes back up, g and a letter change the page, ? explains."""
    window = windows(shop)
    page = window.open("/traces")
    page.locator("[data-trace]").first.wait_for()
    page.keyboard.press("p")
    for key in "jjk":
        page.keyboard.press(key)
    name = page.evaluate("document.activeElement.closest('[data-trace]').dataset.trace")
    assert name == page.locator("[data-trace]").first.get_attribute("data-trace")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{shop.url}/traces/{name}")
    page.locator(".waterfall").wait_for()
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{shop.url}/traces")
    page.keyboard.press("g")
    page.keyboard.press("l")
    expect(page).to_have_url(f"{shop.url}/logs")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("previous row")
    window.picture("help")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
