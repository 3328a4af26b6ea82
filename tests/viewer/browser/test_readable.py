"""Readable for everyone: axe finds nothing serious, no view scrolls sideways on a phone, all fits at 4K."""

from __future__ import annotations

import pytest

from tests.support.slow import slow
from tests.viewer.backend import Backend
from tests.viewer.browser.browser import PHONE, UHD, WIDE
from tests.viewer.browser.conftest import Windows
from tests.viewer.browser.telemetry import CHECKOUT, REPORT, hex_span, hex_trace

pytestmark = pytest.mark.xdist_group("viewer-browser")

VIEWS = {
    "traces": "/traces",
    "trace": f"/traces/{hex_trace(CHECKOUT)}?span={hex_span(1)}",
    "n-plus-one": f"/traces/{hex_trace(REPORT)}?span=fold:{hex_span(2)}",
    "logs": "/logs",
    "errors": "/errors",
    "metrics": "/metrics/http.server.request.duration?group_by=http.route",
    "map": "/map",
    "queries": "/queries",
    "health": "/health",
    "sql": "/sql?query=SELECT+service,+name,+trace_id+FROM+spans+LIMIT+5",
}
REST = [view for view in VIEWS if view != "traces"]


@pytest.mark.parametrize("theme", ["light", *slow("dark")])
@pytest.mark.parametrize("view", ["traces", *slow(*REST)])
def test_axe_finds_nothing_serious(shop: Backend, windows: Windows, view: str, theme: str) -> None:
    """In either theme, by the rules of WCAG 2.2 AA."""
    window = windows(shop, size=WIDE, theme=theme)
    window.open(VIEWS[view])
    window.page.wait_for_timeout(300)  # what comes after the first answer: charts, details
    assert window.axe() == []
    window.picture(f"{view}-{theme}")


@pytest.mark.parametrize("view", list(VIEWS))
@pytest.mark.slow
def test_a_phone_shows_it_without_scrolling_sideways(shop: Backend, windows: Windows, view: str) -> None:
    """At 360 pixels, and with nothing serious for axe there either."""
    window = windows(shop, size=PHONE)
    window.open(VIEWS[view])
    window.page.wait_for_timeout(300)
    assert not window.overflows()
    assert window.axe() == []
    window.picture(f"{view}-phone")


@pytest.mark.parametrize("view", ["traces", "trace", "metrics", "map"])
@pytest.mark.slow
def test_a_large_screen_has_larger_text(shop: Backend, windows: Windows, view: str) -> None:
    """At 3840 x 2160 text is 20 pixels high, not 14."""
    window = windows(shop, size=UHD)
    window.open(VIEWS[view])
    window.page.wait_for_timeout(300)
    assert window.page.evaluate("getComputedStyle(document.documentElement).fontSize") == "20px"
    assert not window.overflows()
    window.picture(f"{view}-4k")
