"""A browser, a backend that has received a shop's telemetry, and windows that must stay without errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.viewer.backend import Backend, running_backend
from tests.viewer.browser.browser import WIDE, Window, chromium
from tests.viewer.browser.telemetry import send_shop

Windows = Callable[..., Window]

expect.set_options(timeout=20_000)  # ms; a busy machine takes more than the default of 5000


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all of these tests; each has a window with a profile of its own. Not for other tests: while it is
    there, playwright's event loop runs in this thread.
    """
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend with a shop's telemetry; tests only read it."""
    with running_backend(tmp_path_factory.mktemp("shop")) as started:
        send_shop(started)
        yield started


@pytest.fixture
def windows(browser: Browser) -> Iterator[Windows]:
    """Opens windows on a backend."""
    opened: list[Window] = []

    def window(backend: Backend, *, size: tuple[int, int] = WIDE, theme: str = "light") -> Window:
        opened.append(Window(browser, backend.url, size=size, theme=theme))
        return opened[-1]

    yield window
    for each in opened:
        each.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Backend]:
    """A backend that has received nothing yet."""
    with running_backend(tmp_path) as started:
        yield started
