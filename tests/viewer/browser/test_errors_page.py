"""Errors in groups, and the mark of those that nobody has read."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.viewer.backend import Backend, span, spans_request
from tests.viewer.browser.conftest import Windows
from tests.viewer.browser.telemetry import CHECKOUT, STACK, hex_span, hex_trace

pytestmark = pytest.mark.xdist_group("viewer-browser")


@pytest.mark.slow
def test_a_group_has_its_stack_its_counts_and_its_newest_trace(shop: Backend, windows: Windows) -> None:
    """From the list to the group to the trace."""
    window = windows(shop)
    page = window.open("/errors")
    row = page.locator("[data-error]").filter(has_text="PaymentDeclined")
    expect(row).to_contain_text("card declined")
    window.picture("errors")
    row.locator("[data-row]").click()
    expect(page.locator("h1")).to_have_text("shop.payment.PaymentDeclined")
    expect(page.get_by_role("region", name="Stack", exact=True)).to_contain_text("payment.py")
    expect(page.get_by_role("img", name="a minute")).to_be_visible()
    window.picture("error-group")
    page.get_by_role("region", name="Recent").get_by_role("link").first.click()
    assert page.url.endswith(f"/traces/{hex_trace(CHECKOUT)}?span={hex_span(1)}")


@pytest.mark.slow
def test_a_badge_counts_errors_that_nobody_has_read(empty: Backend, windows: Windows) -> None:
    """It comes by itself on any page, and is gone once the errors were looked at."""
    window = windows(empty)
    page = window.open("/traces")
    expect(page.locator(".badge")).to_have_count(0)
    failed = span("boom", trace=1, start_s=time.time(), error=True)
    event = failed.events.add(name="exception", time_unix_nano=time.time_ns())
    for key, value in (("type", "ValueError"), ("message", "no"), ("stacktrace", STACK)):
        event.attributes.add(key=f"exception.{key}").value.string_value = value
    empty.send(spans_request(failed))
    expect(page.locator(".badge")).to_have_text("1")
    expect(page).to_have_title("(1) Traces · otelkit")
    page.get_by_role("link", name="Errors").click()
    expect(page.locator("[data-error]")).to_contain_text("new")
    page.get_by_role("link", name="Traces").click()
    expect(page.locator(".badge")).to_have_count(0)
    page.reload()
    expect(page.locator("[data-trace]")).to_have_count(1)
    expect(page.locator(".badge")).to_have_count(0)
