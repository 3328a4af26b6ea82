"""Debian's chromium, driven by playwright: a page that notes what went wrong in it, and keeps pictures of itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    sync_playwright,
)

ROOT = Path(__file__).parents[3]
ARTEFACTS = ROOT / ".artefacts" / "viewer"
"""Where the pictures go, for people to look at."""
AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
WIDE = (1440, 900)
PHONE = (360, 740)
UHD = (3840, 2160)
_NOT_FOUND = re.compile(r"/api/v1/traces/[0-9a-f]{32}$")
"""The page asks again for a trace that is not there yet; the browser's console calls each 404 an error."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window; skips the test where none is installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        # As root, and in containers, chromium's own sandbox does not start; only pages of these tests are opened.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """One page of the viewer, or of what links to the viewer: then `also` is the viewer's address."""

    def __init__(
        self, browser: Browser, url: str, *, also: str = "", size: tuple[int, int] = WIDE, theme: str = "light"
    ) -> None:
        self.url = url
        self._known = (url, also or url, "data:", "blob:")
        self.context: BrowserContext = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if theme == "dark" else "light",
            timezone_id="Europe/Berlin",
            reduced_motion="reduce",
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.wrong: list[str] = []
        self._work: CDPSession | None = None
        # Of the page, and of those that its links open.
        self.context.on("console", self._said)
        self.context.on("weberror", lambda error: self.wrong.append(f"exception: {error.error}"))
        self.context.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _NOT_FOUND.search(message.location.get("url", "")):
            self.wrong.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self._known):
            self.wrong.append(f"asked {request.url}")

    def open(self, path: str) -> Page:
        """Goes to a path, and waits until the page is drawn."""
        self.page.goto(self.url + path)
        self.page.locator(".bar").wait_for()
        self.page.locator("main > *:not(.said-small)").first.wait_for(state="attached")
        return self.page

    def find(self, selector: str) -> Locator:
        """What a selector names."""
        return self.page.locator(selector)

    def picture(self, name: str, page: Page | None = None) -> None:
        """Keeps what is seen."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        (page or self.page).screenshot(path=ARTEFACTS / f"{name}.png")

    def worked_s(self) -> float:
        """How long the page's thread has worked at scripts, styles and layout, waits for a processor left out."""
        if self._work is None:
            self._work = self.context.new_cdp_session(self.page)
            self._work.send("Performance.enable", {"timeDomain": "threadTicks"})
        metrics = {each["name"]: each["value"] for each in self._work.send("Performance.getMetrics")["metrics"]}
        return float(sum(metrics[f"{part}Duration"] for part in ("Script", "RecalcStyle", "Layout")))

    def axe(self) -> list[str]:
        """What axe finds that is serious or worse, one line each."""
        # Evaluated by the debugger, which the page's Content-Security-Policy does not bind.
        self.page.evaluate(AXE)
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        found: dict[str, Any] = self.page.evaluate(
            "(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}})", tags
        )
        return [
            f"{each['id']} ({each['impact']}): {node['target']} {node['failureSummary']}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"][:3]
        ]

    def overflows(self) -> bool:
        """Whether the page as a whole scrolls sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

    def close(self) -> None:
        """Closes it; nothing may have gone wrong in it."""
        self.context.close()
        assert self.wrong == []
