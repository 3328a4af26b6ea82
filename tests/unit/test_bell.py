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


def test_short_waits_end() -> None:
    """None of many, between rings: a SimpleQueue's `get` on Python 3.10 missed its timeout once in some thousand."""
    bell = Bell()
    done = threading.Event()

    def wait_shortly() -> None:
        for _ in range(20_000):
            bell.ring()
            bell.wait(0.001)
            bell.wait(0.0)
        done.set()

    threading.Thread(target=wait_shortly, daemon=True).start()
    assert done.wait(20)


def test_without_a_timeout_it_waits_for_the_ring() -> None:
    """However long."""
    bell = Bell()
    woken = threading.Event()

    def wait() -> None:
        bell.wait(None)
        woken.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not woken.wait(0.1)
    bell.ring()
    assert woken.wait(20)


def test_rings_of_many_threads_do_not_raise() -> None:
    """Two that ring at once are one ring."""
    bell = Bell()
    failures: list[BaseException] = []

    def ring() -> None:
        try:
            for _ in range(20_000):
                bell.ring()
        except BaseException as error:  # noqa: BLE001 - what the thread fails with is the test's to tell
            failures.append(error)

    ringing = [threading.Thread(target=ring) for _ in range(4)]
    for thread in ringing:
        thread.start()
    while any(thread.is_alive() for thread in ringing):
        bell.wait(0.001)
    assert failures == []
