"""The threads of a pipeline: started once, and later where the system refuses them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from otelkit.delivery import threads
from otelkit.delivery.threads import Job, Threads


class System:
    """Refuses to start threads of some names, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.asked: list[str] = []
        self._start = threading.Thread.start

    def start(self, thread: threading.Thread) -> None:
        self.asked.append(thread.name)
        if thread.name in self.refused:
            raise RuntimeError("can't start new thread")
        self._start(thread)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    found = System()
    monkeypatch.setattr(threading.Thread, "start", lambda thread: found.start(thread))
    return found


@pytest.fixture
def jobs() -> Iterator[list[tuple[str, Job]]]:
    """Two that last as long as the test."""
    ended = threading.Event()
    yield [("first", lambda: ended.wait(10) and None), ("second", lambda: ended.wait(10) and None)]
    ended.set()


def test_a_start_that_is_refused_is_tried_again_once_a_second(
    system: System, jobs: list[tuple[str, Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many records there are meanwhile. What runs is not started again."""
    found = Threads(jobs)
    system.refused = {"second"}
    assert not any(found.start() for _ in range(1000))
    assert system.asked == ["first", "second"]
    assert [thread.name for thread in found.running] == ["first"]
    system.refused = set()
    assert not found.start(), "not yet"
    later_s = time.monotonic() + threads.START_AGAIN_S
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    assert found.start()
    assert system.asked == ["first", "second", "second"]
    assert [thread.name for thread in found.running] == ["first", "second"]
    assert all(thread.daemon and thread.is_alive() for thread in found.running)


def test_it_is_told_once_and_not_at_the_first_refusal(
    system: System,
    jobs: list[tuple[str, Job]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the end of an interpreter it is no news."""
    monkeypatch.setattr(threads, "START_AGAIN_S", 0.0)
    found = Threads(jobs)
    system.refused = {"first"}
    with caplog.at_level(logging.INFO, "otelkit"):
        for told in (0, 1, 1):
            found.start()
            assert len(caplog.messages) == told


def test_nobody_starts_a_thread_for_what_a_caller_does(
    system: System, jobs: list[tuple[str, Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would do the same work. Nobody waits for the caller either, but for another one, who has his time."""
    monkeypatch.setattr(threads, "START_AGAIN_S", 0.0)
    found = Threads(jobs)
    system.refused = {"first"}
    with found.held_back(1.0) as undone:
        assert undone == [job for _, job in jobs]
        system.refused = set()
        others: list[object] = []

        def another() -> None:
            others.append(found.start())
            with found.held_back(0.05) as theirs:
                others.append(theirs)

        thread = threading.Thread(target=another, name="another")
        thread.start()
        thread.join(10)
        assert others == [False, ()]
        assert system.asked == ["first", "another"]
    assert found.start()


def test_a_finalizer_may_record_while_a_thread_is_started(
    system: System, jobs: list[tuple[str, Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts nothing twice, however long that takes, and what was refused meanwhile is not forgotten."""
    monkeypatch.setattr(threads, "START_AGAIN_S", 0.0)
    found = Threads(jobs)
    begun = system.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "first" and len(system.asked) < 2:
            system.asked.append("interrupted")
            found.start()
            raise RuntimeError("can't start new thread")
        begun(thread)

    monkeypatch.setattr(system, "start", start)
    assert not found.start()
    assert system.asked == ["interrupted", "second"]
    assert found.start()
    assert system.asked == ["interrupted", "second", "first"]
