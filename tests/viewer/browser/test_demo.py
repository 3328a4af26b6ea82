"""`make demo` as a user sees it: the shop's page, its buttons, and behind each link the trace of what was pressed."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from examples.shop.processes import running_shop
from examples.shop.redis_server import redis_server
from tests.support.demo import Demo
from tests.support.server import FAST
from tests.support.sink import Sink
from tests.viewer.browser.browser import PHONE, WIDE, Window

pytestmark = [pytest.mark.xdist_group("viewer-browser"), pytest.mark.timeout(180)]

CUSTOMERS = 12
FIVE_HUNDRED = "error: Failed to load resource: the server responded with a status of 500 (Internal Server Error)"

Open = Callable[..., Window]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo without the stack's programs; it ends by Ctrl-C, in order."""
    folder = tmp_path_factory.mktemp("demo")
    with Demo(folder / "demo", stack_bin=str(folder)) as started:
        started.wait_for("was just placed")
        yield started
        started.process.send_signal(signal.SIGINT)
        started.ends()


@pytest.fixture
def open_shop(browser: Browser, demo: Demo) -> Iterator[Open]:
    """Opens the shop's page; in no window may anything go wrong."""
    opened: list[Window] = []

    def window(*, size: tuple[int, int] = WIDE, theme: str = "light") -> Window:
        opened.append(Window(browser, demo.shop, also=demo.viewer, size=size, theme=theme))
        opened[-1].page.goto(demo.shop)
        return opened[-1]

    yield window
    for each in opened:
        each.close()


def press(window: Window, name: str) -> Locator:
    """Presses a button of the shop; what is said beside it when the answer is there."""
    button = window.page.get_by_role("button", name=name)
    button.click()
    said = window.page.locator("li").filter(has=button).locator("output")
    expect(said).to_contain_text("after")
    return said


def trace_of(window: Window, name: str, status: int) -> Page:
    """The page that the link of an answer opens."""
    said = press(window, name)
    expect(said.locator("strong")).to_have_text(str(status))
    with window.context.expect_page() as opened:
        said.get_by_role("link", name="See its trace").click()
    return opened.value


def rows(page: Page, label: str) -> Locator:
    """The rows of the spans of a name."""
    return page.locator("[data-span]").filter(has=page.get_by_text(label, exact=True))


def spent_ms(row: Locator) -> float:
    """The duration that stands at a row's bar."""
    number, unit = row.locator(".spent").inner_text().split(" ")[:2]
    return float(number) * {"µs": 0.001, "ms": 1, "s": 1000}[unit]


def right_edge(row: Locator) -> float:
    """Where a row's bar ends, in pixels."""
    box = row.locator(".whole").bounding_box()
    assert box is not None
    return box["x"] + box["width"]


def details(page: Page) -> Locator:
    """What is known of the span that is chosen."""
    return page.get_by_role("complementary", name="Details")


@pytest.mark.slow
def test_an_order_is_one_trace_of_two_services(open_shop: Open) -> None:
    """From the request to the last statement of the worker's task."""
    page = trace_of(open_shop(), "Place an order", 201)
    expect(page.locator("h1")).to_have_text("POST /orders")
    expect(rows(page, "UPDATE orders")).to_have_count(1)
    expect(rows(page, "POST /orders")).to_have_count(1)
    expect(page.locator(".heading.facts")).to_contain_text("shop-worker")


@pytest.mark.slow
def test_the_slow_span_is_on_the_critical_path(open_shop: Open) -> None:
    """It has its time itself, and the statement before it has next to none."""
    window = open_shop()
    page = trace_of(window, "Slow report", 200)
    render = rows(page, "report.render")
    expect(render.locator(".critical")).to_be_visible()
    assert spent_ms(render) >= 800
    assert spent_ms(rows(page, "SELECT orders")) < 800
    window.picture("demo-slow", page)


@pytest.mark.slow
def test_n_plus_one_is_one_row_with_its_mark(open_shop: Open) -> None:
    """The statement that loads each customer's reviews; what to do about it is in the details."""
    window = open_shop()
    page = trace_of(window, "Customers, N+1", 200)
    expect(page.locator("[data-span]")).to_have_count(3)
    fold = page.locator('[data-span^="fold:"]')
    expect(fold.locator(".label")).to_contain_text("SELECT reviews.customer, reviews.sku, reviews.stars")
    expect(fold.locator(".times")).to_have_text(f"x {CUSTOMERS}")
    expect(fold.locator(".chip.warn")).to_have_text("N+1")
    fold.click()
    expect(details(page)).to_contain_text(f"ran {CUSTOMERS} times under one parent")
    window.picture("demo-n-plus-one", page)


@pytest.mark.slow
def test_an_error_has_its_exception(open_shop: Open) -> None:
    """The request and the span that raised it are marked; the stack names the line."""
    window = open_shop()
    page = trace_of(window, "Failing refund", 500)
    for name in ("POST /refunds", "bank.refund"):
        expect(rows(page, name).locator(".dot.error")).to_be_visible()
    rows(page, "bank.refund").click()
    exception = details(page).get_by_role("region", name="Exception")
    expect(exception).to_contain_text("examples.shop.showcase.BankUnreachable")
    expect(exception.locator(".stack")).to_contain_text('raise BankUnreachable("the bank does not answer")')
    window.picture("demo-error", page)
    # The browser says of the answer what it was.
    assert window.wrong == [f"{FIVE_HUNDRED} {window.url}/refunds"]
    window.wrong.clear()


@pytest.mark.slow
def test_the_span_of_a_stream_ends_with_its_last_chunk(open_shop: Open) -> None:
    """The page says when the answer began; the request's bar spans all pages, and goes as far as the last of them."""
    window = open_shop()
    page = trace_of(window, "Streamed export", 200)
    pages = rows(page, "export.page")
    expect(pages).to_have_count(5)
    request = rows(page, "GET /export")
    assert spent_ms(request) >= 5 * 150
    assert right_edge(pages.nth(4)) <= right_edge(request) + 1
    assert right_edge(pages.nth(3)) < right_edge(pages.nth(4))
    expect(window.page.locator("output").filter(has_text="its beginning after")).to_be_visible()
    window.picture("demo-stream", page)


@pytest.mark.slow
def test_retries_are_one_below_the_other(open_shop: Open) -> None:
    """Three attempts at the second task of a chain, the first two with their mark, the last before the third task."""
    window = open_shop()
    page = trace_of(window, "Parcel, with retries", 202)
    expect(rows(page, "process shop.announce_parcel")).to_have_count(1)
    attempts = rows(page, "process shop.book_courier")
    expect(attempts).to_have_count(3)
    for attempt, times in enumerate((1, 1, 0)):
        expect(attempts.nth(attempt).locator(".chip.warn").get_by_text("retry")).to_have_count(times)
    expect(attempts.nth(0).locator(".wait")).to_be_visible()
    attempts.nth(2).click()
    expect(details(page).get_by_role("region", name="Attributes")).to_contain_text("celery.task.retries")
    expect(details(page).get_by_role("region", name="Links")).to_contain_text("attempt")
    window.picture("demo-retries", page)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "theme"), [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light")])
def test_the_shops_page_is_readable(open_shop: Open, size: tuple[int, int], theme: str) -> None:
    """By axe, with answers on it, and without scrolling sideways."""
    window = open_shop(size=size, theme=theme)
    for name in ("Place an order", "Streamed export"):
        press(window, name)
    expect(window.page.locator("#viewer a")).to_be_visible()
    window.picture(f"demo-shop-{theme}-{size[0]}")
    assert window.axe() == []
    assert not window.overflows()


@pytest.mark.slow
def test_without_a_viewer_the_trace_s_id_stands_alone(browser: Browser, tmp_path: Path) -> None:
    """The page has no link at all, and says what to set."""
    with Sink() as sink, redis_server() as redis_url:
        environ = {**FAST, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_STATE_DIR": str(tmp_path / "state")}
        with running_shop(tmp_path, redis_url=redis_url, environ=environ) as shop:
            window = Window(browser, shop.url)
            window.page.goto(shop.url)
            expect(window.page.locator("#viewer")).to_contain_text("SHOP_VIEWER_URL")
            expect(press(window, "Customers, N+1").locator("code")).to_have_text(re.compile("^[0-9a-f]{32}$"))
            assert window.page.get_by_role("link").count() == 0
            window.close()
