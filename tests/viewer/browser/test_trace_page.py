"""One trace: the waterfall, the details of a span, its logs."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.viewer.backend import Backend, span, spans_request
from tests.viewer.browser.conftest import Windows
from tests.viewer.browser.telemetry import BROKEN, CHECKOUT, LARGE, LARGE_SPANS, REPORT, STATEMENT, hex_span, hex_trace

pytestmark = pytest.mark.xdist_group("viewer-browser")


def test_a_waterfall_shows_the_tree_the_critical_path_and_the_wait(shop: Backend, windows: Windows) -> None:
    """Over three services; a closed span hides what is below it."""
    window = windows(shop)
    page = window.open(f"/traces/{hex_trace(CHECKOUT)}")
    rows = page.locator("[data-span]")
    expect(rows).to_have_count(7)
    run = page.locator(f'[data-span="{hex_span(7)}"]')
    expect(run).to_have_attribute("aria-level", "4")
    expect(run.locator(".wait")).to_have_attribute("title", "waited 125 ms in the queue")
    expect(page.locator(f'[data-span="{hex_span(1)}"] .critical')).to_be_visible()
    own = page.locator(f'[data-span="{hex_span(2)}"] .solid')
    assert own.count() == 4, "before, between and after its three children it worked itself"
    window.picture("trace")
    page.locator(f'[data-span="{hex_span(2)}"] .twisty').click()
    expect(rows).to_have_count(2)
    expect(page.locator(f'[data-span="{hex_span(2)}"]')).to_contain_text("+5")


@pytest.mark.slow
def test_a_span_s_details_have_its_exception_attributes_events_and_logs(shop: Backend, windows: Windows) -> None:
    """Opened by a click, and by its own address."""
    window = windows(shop)
    page = window.open(f"/traces/{hex_trace(CHECKOUT)}")
    page.locator(f'[data-span="{hex_span(1)}"]').click()
    assert page.url.endswith(f"?span={hex_span(1)}")
    details = page.get_by_role("complementary", name="Details")
    expect(details.get_by_role("region", name="Exception")).to_contain_text("shop.payment.PaymentDeclined")
    expect(details.locator(".stack .library").first).to_contain_text("starlette")
    expect(details.get_by_role("region", name="Attributes")).to_contain_text("http.response.status_code")
    expect(details.get_by_role("region", name="Events")).to_contain_text("cart.loaded")
    expect(details.get_by_role("region", name="Logs of this span")).to_contain_text("card declined")
    window.picture("span-details")
    details.get_by_role("link", name="500").click()
    expect(page).to_have_url(f"{shop.url}/traces?q=http.response.status_code%3A500")
    expect(page.locator("[data-trace]")).to_have_count(1)
    window.open(f"/traces/{hex_trace(CHECKOUT)}?span={hex_span(7)}")
    expect(details.get_by_role("region", name="Links")).to_contain_text(hex_trace(REPORT))
    details.get_by_role("region", name="Links").get_by_role("link").click()
    expect(page.locator("h1")).to_have_text("GET /report")


def test_repeated_queries_are_one_row_with_the_n_plus_one_mark(shop: Backend, windows: Windows) -> None:
    """Folded at first, opened by its triangle, explained in the details."""
    window = windows(shop, theme="dark")
    page = window.open(f"/traces/{hex_trace(REPORT)}")
    expect(page.locator("[data-span]")).to_have_count(2)
    fold = page.locator('[data-span^="fold:"]')
    expect(fold.locator(".label")).to_have_text(STATEMENT)
    expect(fold).to_contain_text("x 37")
    expect(fold).to_contain_text("N+1")
    fold.click()
    expect(page.get_by_role("complementary", name="Details")).to_contain_text("ran 37 times under one parent")
    window.picture("n-plus-one-dark")
    fold.locator(".twisty").click()
    expect(page.locator("[role=treegrid]")).to_have_attribute("aria-rowcount", "40")


@pytest.mark.slow
def test_five_thousand_spans_scroll_smoothly(shop: Backend, windows: Windows) -> None:
    """Only the rows in sight exist; a jump by 100 rows is less work than two frames have time for."""
    window = windows(shop)
    page = window.open(f"/traces/{hex_trace(LARGE)}")
    grid = page.locator("[role=treegrid]")
    expect(grid).to_have_attribute("aria-rowcount", str(LARGE_SPANS + 1))
    assert page.locator("[data-span]").count() < 80
    before = window.worked_s()
    page.evaluate(
        """async () => {
            const grid = document.querySelector("[role=treegrid]");
            const frame = () => new Promise((done) => requestAnimationFrame(done));
            for (let step = 0; step < 40; step += 1) {
                grid.scrollTop += 3000;
                await frame();
                await frame();
            }
        }"""
    )
    each_ms = (window.worked_s() - before) / 40 * 1_000
    window.picture("trace-of-5000-spans")
    assert each_ms < 32, f"a step of 100 rows took {each_ms:.1f} ms of work: more than two frames"
    page.keyboard.press("End")
    expect(page.locator(".span-row.cursor")).to_be_visible()
    page.get_by_role("searchbox", name="Find in this trace").fill("item 4999")
    expect(page.get_by_role("status")).to_contain_text("1 found")
    page.keyboard.press("Enter")
    expect(page.locator(f'[data-span="{hex_span(4999)}"].found')).to_be_in_viewport()
    assert page.locator("[data-span]").count() < 80


@pytest.mark.slow
def test_lost_parents_and_circles_are_shown_and_named(shop: Backend, windows: Windows) -> None:
    """Every span is there once, whatever its parent says."""
    window = windows(shop)
    page = window.open(f"/traces/{hex_trace(BROKEN)}")
    expect(page.locator("[data-span]")).to_have_count(3)
    expect(page.locator(f'[data-span="{hex_span(1)}"]')).to_contain_text("parent not received")
    expect(page.locator(f'[data-span="{hex_span(2)}"]')).to_contain_text("parents form a cycle")


def test_the_logs_of_a_trace_stand_beside_its_spans(shop: Backend, windows: Windows) -> None:
    """A tab with its own address; each line leads to its span."""
    window = windows(shop)
    page = window.open(f"/traces/{hex_trace(CHECKOUT)}")
    page.get_by_role("button", name="Logs 8").click()
    assert page.url.endswith("?tab=logs")
    line = page.locator("[data-log]").filter(has_text="card declined")
    line.get_by_role("link").click()
    expect(page.get_by_role("complementary", name="Details").locator("h2")).to_have_text("POST /checkout")


@pytest.mark.slow
def test_a_trace_that_is_not_there_yet_appears_when_it_arrives(empty: Backend, windows: Windows) -> None:
    """A link may be followed before the last span has ended."""
    window = windows(empty)
    page = window.open(f"/traces/{hex_trace(5)}")
    expect(page.locator(".empty")).to_contain_text("not here yet")
    empty.send(spans_request(span("late", trace=5)))
    expect(page.locator("h1")).to_have_text("late")


def test_the_keyboard_walks_the_spans(shop: Backend, windows: Windows) -> None:
    """Down, open the details, close a branch, esc closes the details and then leaves."""
    window = windows(shop)
    page = window.open(f"/traces/{hex_trace(CHECKOUT)}")
    page.locator("[data-span]").first.wait_for()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    details = page.get_by_role("complementary", name="Details")
    expect(details.locator("h2")).to_have_text("place_order")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-span]")).to_have_count(2)
    page.keyboard.press("ArrowRight")
    expect(page.locator("[data-span]")).to_have_count(7)
    page.keyboard.press("Escape")
    expect(details).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{shop.url}/traces")


def test_keys_that_come_faster_than_pictures(shop: Backend, windows: Windows) -> None:
    """Each acts on the row that the one before has come to."""
    page = windows(shop).open(f"/traces/{hex_trace(CHECKOUT)}")
    third = page.locator("[data-span]").nth(2).get_attribute("data-span")
    page.evaluate(
        """async () => {
          for (const key of ["j", "j", "Enter"]) {
            document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
            await new Promise((done) => setTimeout(done));
          }
        }"""
    )
    expect(page).to_have_url(re.compile(f"span={third}$"))


@pytest.mark.slow
def test_a_part_of_the_time_is_dragged_over_and_stays_in_the_address(shop: Backend, windows: Windows) -> None:
    """Spans outside of it keep their rows; the keys go closer, further, on and back to the whole."""
    window = windows(shop)
    page = window.open(f"/traces/{hex_trace(CHECKOUT)}")
    rows = page.locator("[data-span]")
    expect(rows).to_have_count(7)
    time = page.locator(f'[data-span="{hex_span(2)}"] .span-time').bounding_box()
    assert time is not None
    middle = time["y"] + time["height"] / 2
    page.mouse.move(time["x"] + time["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(time["x"] + time["width"] * 0.4, middle)
    page.mouse.move(time["x"] + time["width"] * 0.5, middle)
    expect(page.locator(".chosen")).to_be_visible()
    page.mouse.up()
    whole = page.get_by_role("button", name="Show the whole trace")
    expect(whole).to_be_visible()
    assert "span=" not in page.url, "what was dragged over is not opened"
    expect(rows).to_have_count(7)
    first, last = _zoom(page.url)
    width = page.locator(f'[data-span="{hex_span(1)}"] .whole').bounding_box()
    assert width is not None
    assert width["width"] >= time["width"], "the root fills the part"
    expect(page.locator(".outside").first).to_be_visible()
    window.picture("trace-zoomed")

    page.reload()
    expect(whole).to_be_visible()
    assert _zoom(page.url) == (first, last)
    page.keyboard.press("+")
    closer = _zoom(page.url)
    assert closer[1] - closer[0] == pytest.approx((last - first) / 2, rel=0.01)
    page.keyboard.press("]")
    assert _zoom(page.url)[0] > closer[0]
    page.keyboard.press("-")
    page.locator(f'[data-span="{hex_span(7)}"] .label').click()
    assert "zoom=" in page.url, "it stays when a span is opened"
    page.keyboard.press("z")
    run = page.locator(f'[data-span="{hex_span(7)}"] .whole').bounding_box()
    area = page.locator(f'[data-span="{hex_span(7)}"] .span-time').bounding_box()
    assert run is not None
    assert area is not None
    assert run["x"] + run["width"] <= area["x"] + area["width"]
    page.keyboard.press("0")
    expect(whole).to_have_count(0)
    assert "zoom=" not in page.url


def _zoom(url: str) -> tuple[float, float]:
    found = re.search(r"zoom=([\d.]+)-([\d.]+)", url)
    assert found is not None, url
    return float(found[1]), float(found[2])
