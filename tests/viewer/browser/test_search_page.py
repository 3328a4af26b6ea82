"""A search that looks back over everything: what it has found so far, how far it has come, stopped, gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.viewer.backend import Backend, running_backend, span, spans_request
from tests.viewer.browser.browser import PHONE
from tests.viewer.browser.conftest import Windows

pytestmark = pytest.mark.xdist_group("viewer-browser")

TRACES = 40_000
SLOW = " OR ".join(["name:odd", *(f"no{n}*y" for n in range(200))])
"""Looks through a few hundred traces in the time that a test takes."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend with 40,000 traces, of which ten are odd: the newest one, and nine among the oldest."""
    with running_backend(tmp_path_factory.mktemp("full")) as backend:
        start_s = time.time() - 3600
        for first in range(0, TRACES, 4_000):
            numbers = range(first, first + 4_000)
            names = ["odd" if number < 9 or number == TRACES - 1 else "even" for number in numbers]
            backend.send(
                spans_request(
                    *(
                        span(name, trace=1 + number, number=1, start_s=start_s + number / 20)
                        for number, name in zip(numbers, names, strict=True)
                    )
                )
            )
        backend.wait_for_rows(spans=TRACES)
        yield backend


def connections(backend: Backend) -> int:
    """How many connections to its database there are."""
    query = {"query": "SELECT * FROM duckdb_connection_count()"}
    answer = backend.ask("/api/v1/sql", body=json.dumps(query).encode(), method="POST")
    return int(answer.json["rows"][0][0])


def test_a_search_shows_what_it_has_found_and_can_be_stopped_and_gone_on_with(full: Backend, windows: Windows) -> None:
    """The newest comes first; stopped, the viewer does no more for it; gone on with, all of it is there."""
    window = windows(full)
    page = window.open(f"/traces?q={SLOW}")
    progress = page.locator(".progress")
    expect(progress).to_contain_text("Searched")
    expect(page.locator("[data-trace]")).to_have_count(1)
    window.picture("search-running")
    progress.get_by_role("button", name="Stop").click()
    expect(progress.get_by_role("status")).to_contain_text("Stopped: searched")
    expect(progress.get_by_role("progressbar")).to_have_count(0)
    expect(page.locator("[data-trace]")).to_have_count(1)
    assert window.axe() == []
    window.picture("search-stopped")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("[data-trace]")).to_have_count(10)
    expect(progress).to_have_count(0)


def test_a_search_that_is_left_ends_in_the_viewer(full: Backend, windows: Windows) -> None:
    """For another filter, and for another page; on a phone all of it can be read."""
    window = windows(full, size=PHONE)
    page = window.open("/queries")
    before = connections(full)
    page.goto(f"{full.url}/traces?q={SLOW}")
    expect(page.get_by_role("progressbar", name="Search")).to_be_visible()
    assert not window.overflows()
    assert window.axe() == []
    window.picture("search-phone")
    assert connections(full) == before + 1
    page.get_by_role("button", name="Clear the filter").click()
    expect(page.locator("[data-trace]")).to_have_count(100)
    full.wait(lambda: connections(full) == before, "the search has ended", 2)
    page.go_back()
    expect(page.get_by_role("progressbar", name="Search")).to_be_visible()
    page.get_by_role("link", name="Errors").click()
    full.wait(lambda: connections(full) == before, "the search has ended", 2)
