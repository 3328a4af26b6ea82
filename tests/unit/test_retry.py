"""When a failed request is tried again."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelkit.delivery.retry import FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_RETRY_AFTER_S, Backoff, retry_after_s

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=timezone.utc)


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    """Each is between half of the step and the whole of it."""
    backoff = Backoff()
    step = FIRST_PAUSE_S
    for _ in range(40):
        assert step / 2 <= backoff.after_failure() <= step
        step = min(step * 2, LONGEST_PAUSE_S)
    assert step == LONGEST_PAUSE_S
    backoff.after_success()
    assert backoff.after_failure() <= FIRST_PAUSE_S


def test_two_processes_do_not_pause_alike() -> None:
    """Jitter: after an outage not every process comes at the same moment."""
    assert len({Backoff().after_failure() for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("wish", "pause"),
    [(7.0, 7.0), (0.6, 0.6), (1e9, LONGEST_RETRY_AFTER_S), (float("inf"), 300.0), (0.0, 0.5), (-3.0, 0.5)],
)
def test_the_servers_wish_wins_within_reason(wish: float, pause: float) -> None:
    """Exactly, but never longer than the cap, and never without a pause at all."""
    assert Backoff().after_failure(wish) == pause


def test_a_wish_counts_as_a_failure_for_the_next_pause() -> None:
    """A server that stops wishing is met with the pause that its failures have earned."""
    backoff = Backoff()
    for _ in range(3):
        backoff.after_failure(1.0)
    assert backoff.after_failure() >= 4.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 5 ", 5.0),
        ("0", 0.0),
        ("9" * 400, 999999999999.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        ("Sat, 21 Nov 2026 13:01:30 +0100", 90.0),
        (
            "Fri, 31 Dec 9999 23:59:59 GMT",
            (datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc) - NOW).total_seconds(),
        ),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, seconds: float) -> None:
    """Both forms of RFC 9110; a date that has passed asks for no pause."""
    assert retry_after_s(header, now_s=NOW.timestamp()) == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "1.5", "1e9", "²", "٣", "Sat, 99 Foo 2026 25:61:61 GMT"])
def test_what_cannot_be_read_leaves_the_pause_to_us(header: str | None) -> None:
    """No exception, no wish."""
    assert retry_after_s(header) is None


@given(st.text(max_size=60))
def test_no_header_ever_raises(header: str) -> None:
    """A server may send anything."""
    found = retry_after_s(header)
    assert found is None or found >= 0.0


@given(
    st.sampled_from(["Sat, ", "", "Xyz "]),
    st.integers(-10, 10**12),
    st.sampled_from(["Nov", "Feb", "XXX"]),
    st.integers(-1, 10**10),
    st.tuples(*[st.integers(-1, 10**9)] * 3),
    st.sampled_from(["GMT", "+9999", "-0000", "", "+999999999999"]),
)
def test_no_broken_date_ever_raises(
    name: str, day: int, month: str, year: int, clock: tuple[int, int, int], zone: str
) -> None:
    """Dates that are nearly dates are what parsers break on."""
    found = retry_after_s(f"{name}{day} {month} {year} {clock[0]}:{clock[1]}:{clock[2]} {zone}")
    assert found is None or found >= 0.0
