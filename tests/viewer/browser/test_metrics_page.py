"""Metrics: chosen, grouped by a label, as percentiles and heat map, with dots that open traces."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.viewer.backend import Backend
from tests.viewer.browser.conftest import Windows
from tests.viewer.browser.telemetry import CHECKOUT, hex_span, hex_trace

pytestmark = pytest.mark.xdist_group("viewer-browser")


def test_a_counter_is_shown_as_a_rate_and_grouped_by_a_label(shop: Backend, windows: Windows) -> None:
    """Found by its name; the label is in the address; each series has its last value."""
    window = windows(shop)
    page = window.open("/metrics")
    page.get_by_role("searchbox", name="Find a metric").fill("orders")
    page.get_by_role("link", name="orders.placed").click()
    assert page.url.endswith("/metrics/orders.placed")
    latest = page.get_by_role("group", name="Latest values")
    expect(latest.locator("tbody tr")).to_have_count(1)
    expect(latest).to_contain_text("order/s")
    page.get_by_role("button", name="plan").click()
    expect(latest.locator("tbody tr")).to_have_count(2)
    assert page.url.endswith("?group_by=plan")
    expect(latest.locator("tbody tr").first).to_contain_text("pro")
    page.reload()
    expect(latest.locator("tbody tr")).to_have_count(2)
    window.picture("metric-grouped")


@pytest.mark.slow
def test_a_histogram_has_percentiles_and_a_heat_map(shop: Backend, windows: Windows) -> None:
    """Both are drawn, in the metric's unit."""
    window = windows(shop)
    page = window.open("/metrics/http.server.request.duration")
    expect(page.get_by_role("region", name="Percentiles")).to_contain_text("p99")
    heat = page.get_by_role("img", name="Heat map of http.server.request.duration")
    expect(heat).to_be_visible()
    painted = """(canvas) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value) => value !== 0);
    }"""
    page.wait_for_function("() => document.querySelector('.heat').width > 0")
    page.wait_for_timeout(200)
    assert heat.evaluate(painted)
    window.picture("metric-histogram")


def test_an_exemplar_opens_its_trace(shop: Backend, windows: Windows) -> None:
    """The span that was measured: by its dot, and by the list of the same for the keyboard."""
    window = windows(shop)
    page = window.open("/metrics/http.server.request.duration")
    page.locator(".exemplar").last.click()
    page.locator(".waterfall").wait_for()
    assert page.url.endswith(f"/traces/{hex_trace(CHECKOUT)}?span={hex_span(1)}")
    page.go_back()
    page.locator(".exemplars summary").click()
    page.locator(".exemplars").get_by_role("link").first.press("Enter")
    page.locator(".waterfall").wait_for()
    assert page.url.endswith(f"/traces/{hex_trace(CHECKOUT)}?span={hex_span(1)}")
