"""The list of logs, and the way from a line to its span and back."""

from __future__ import annotations

import time

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from playwright.sync_api import expect

from tests.viewer.backend import Backend
from tests.viewer.browser.conftest import Windows
from tests.viewer.browser.telemetry import CHECKOUT, hex_span, hex_trace

pytestmark = pytest.mark.xdist_group("viewer-browser")


def test_logs_are_listed_opened_and_filtered_by_severity(shop: Backend, windows: Windows) -> None:
    """The choice is in the address; an opened line has its attributes and ids."""
    window = windows(shop)
    page = window.open("/logs")
    expect(page.locator("[data-log]")).to_have_count(9)
    window.picture("logs")
    page.get_by_label("Severity").select_option("warn")
    expect(page.locator("[data-log]")).to_have_count(2)
    assert page.url.endswith("?severity=warn")
    line = page.locator("[data-log]").filter(has_text="card declined")
    line.get_by_role("button").click()
    expect(line).to_contain_text("MainThread")
    expect(line).to_contain_text("shop.orders")
    window.picture("log-open")


def test_a_line_leads_to_its_span_and_a_span_to_its_lines(shop: Backend, windows: Windows) -> None:
    """Links both ways; the list of one span can be left for all logs."""
    window = windows(shop)
    page = window.open(f"/logs?trace={hex_trace(CHECKOUT)}&span={hex_span(1)}")
    expect(page.locator("[data-log]")).to_have_count(3)
    page.locator("[data-log]").first.get_by_role("link").click()
    assert page.url.endswith(f"/traces/{hex_trace(CHECKOUT)}?span={hex_span(1)}")
    page.get_by_role("link", name="open as a list").click()
    expect(page.locator("[data-log]")).to_have_count(3)
    page.get_by_role("button", name="All logs").click()
    expect(page.locator("[data-log]")).to_have_count(9)


@pytest.mark.slow
def test_new_logs_stream_in(empty: Backend, windows: Windows) -> None:
    """Without a reload."""
    window = windows(empty)
    page = window.open("/logs")
    expect(page.locator(".empty")).to_contain_text("No logs yet")
    expect(page.locator("[data-pause]")).to_have_text("Live")
    page.wait_for_timeout(300)
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=time.time_ns())
    record.body.string_value = "hello from a service"
    empty.send(request)
    expect(page.locator("[data-log]")).to_contain_text("hello from a service")
