"""The bell: what wakes the worker, from anywhere."""

from __future__ import annotations

import threading
import time

from otelkit.runtime.bell import Bell


def test_a_wait_ends_with_the_ring() -> None:
    """Of another thread."""
    bell = Bell()
    threading.Timer(0.05, bell.ring).start()
    began = time.monotonic()
    bell.wait(20)
    assert time.monotonic() - began < 10


def test_a_ring_before_the_wait_counts_once() -> None:
    """However often it was rung."""
    bell = Bell()
    for _ in range(5):
        bell.ring()
    began = time.monotonic()
    bell.wait(20)
    assert time.monotonic() - began < 10
    began = time.monotonic()
    bell.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_without_time_it_does_not_wait() -> None:
    """Zero is no error."""
    began = time.monotonic()
    Bell().wait(0.0)
    assert time.monotonic() - began < 10
