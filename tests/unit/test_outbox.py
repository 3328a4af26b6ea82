"""The outbox: lanes of encoded batches, bounded by bytes."""

from __future__ import annotations

import threading
import time
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otelkit.config.settings import SIGNALS, Signal
from otelkit.delivery.outbox import Batch, Outbox

LIMIT = 100


def batch(signal: Signal = "traces", size: int = 10, records: int = 1) -> Batch:
    """A batch of so many bytes."""
    return Batch(signal, b"x" * size, records)


def never(evicted: Batch) -> None:
    """For tests in which nothing has to go."""
    raise AssertionError(f"{evicted} was evicted")


class Model(RuleBasedStateMachine):
    """Compares the outbox with a list of what is waiting, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(SIGNALS, LIMIT)
        self.waiting: list[Batch] = []
        self.paused: set[Signal] = set()
        self.flying: Batch | None = None
        self.served: list[Signal] = []
        self.closed = False
        self.offered = 0

    @rule(signal=st.sampled_from(SIGNALS), size=st.integers(0, 130), records=st.integers(1, 5))
    def offer(self, signal: Signal, size: int, records: int) -> None:
        """The oldest that does not fly goes first, and only as many as must."""
        made = batch(signal, size, records)
        evicted: list[Batch] = []
        self.outbox.offer(made, evicted.append)
        if self.closed or size > LIMIT:
            assert evicted == [made]
            return
        self.offered += 1
        self.waiting.append(made)
        expected = []
        while sum(len(found.body) for found in self.waiting) > LIMIT:
            candidates = [found for found in self.waiting if found is not self.flying]
            if not candidates:
                break
            self.waiting.remove(candidates[0])
            expected.append(candidates[0])
        assert [id(found) for found in evicted] == [id(found) for found in expected]
        assert self.outbox.last_sequence == self.offered

    def due(self) -> Batch | None:
        """Of the lanes without a pause the one that was served the longest time ago: its oldest batch."""
        found = [batch for batch in self.waiting if batch.signal not in self.paused]
        return min(
            found,
            key=lambda batch: self.served.index(batch.signal) if batch.signal in self.served else -1,
            default=None,
        )

    @precondition(lambda self: self.flying is None and not self.closed and self.due() is not None)
    @rule()
    def take(self) -> None:
        """Oldest first within its lane, one lane after the other."""
        expected = self.due()
        self.flying = self.outbox.take()
        assert self.flying is expected
        assert self.flying is not None
        self.served = [*(signal for signal in self.served if signal != self.flying.signal), self.flying.signal]

    @precondition(lambda self: self.flying is not None)
    @rule(retry=st.booleans())
    def settle(self, retry: bool) -> None:
        """For good, or back to the head of its lane with a pause."""
        assert self.flying is not None
        counted: list[int] = []
        if retry:
            assert self.outbox.retry(self.flying, 1000.0) is not self.closed
        else:
            assert self.outbox.settle(self.flying, lambda: counted.append(1)) is not self.closed
            assert counted == ([] if self.closed else [1])
        if not self.closed:
            if retry:
                self.paused.add(self.flying.signal)
            else:
                self.waiting.remove(self.flying)
                self.paused.discard(self.flying.signal)
        self.flying = None

    @rule()
    def hurry(self) -> None:
        """Ends every pause."""
        self.outbox.hurry()
        self.paused.clear()

    @rule()
    def close(self) -> None:
        """What is left comes back, oldest first; nothing is taken any more."""
        left = self.outbox.close()
        assert [id(found) for found in left] == [id(found) for found in self.waiting]
        self.waiting.clear()
        self.closed = True
        assert self.outbox.take() is None

    @invariant()
    def records_are_counted(self) -> None:
        """By signal, in flight or not."""
        for signal in SIGNALS:
            expected = sum(found.records for found in self.waiting if found.signal == signal)
            assert self.outbox.records(signal) == expected

    @invariant()
    def settled_is_known(self) -> None:
        """Nothing unsettled up to a number means that a flush may return."""
        oldest = min((found.sequence for found in self.waiting), default=None)
        last = self.offered
        assert self.outbox.wait_settled(last, 0.0) is (oldest is None)
        if oldest is not None:
            assert self.outbox.wait_settled(oldest - 1, 0.0)
            assert not self.outbox.wait_settled(oldest, 0.0)


Model.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestOutbox = Model.TestCase


def in_thread(function: Any) -> tuple[threading.Thread, list[Any]]:
    """Runs a function in a thread; its result appears in the list."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    return thread, results


def test_take_waits_for_an_offer() -> None:
    """Without turning a processor meanwhile."""
    outbox = Outbox(SIGNALS, LIMIT)
    thread, results = in_thread(outbox.take)
    thread.join(0.05)
    assert thread.is_alive()
    offered = batch()
    outbox.offer(offered, never)
    thread.join(5)
    assert results == [offered]


def test_take_waits_for_the_end_of_a_pause_and_hurry_ends_it() -> None:
    """A short pause ends by itself, a long one by a flush."""
    outbox = Outbox(SIGNALS, LIMIT)
    offered = batch()
    outbox.offer(offered, never)
    assert outbox.take() is offered
    outbox.retry(offered, 0.2)
    began = time.monotonic()
    assert outbox.take() is offered
    assert 0.19 <= time.monotonic() - began < 5
    outbox.retry(offered, 1000)
    thread, results = in_thread(outbox.take)
    thread.join(0.05)
    assert thread.is_alive()
    outbox.hurry()
    thread.join(5)
    assert results == [offered]


def test_a_paused_lane_does_not_hold_the_others_up() -> None:
    """A collector that refuses logs goes on getting traces."""
    outbox = Outbox(SIGNALS, LIMIT)
    log, span = batch("logs"), batch("traces")
    outbox.offer(log, never)
    outbox.offer(span, never)
    assert outbox.take() is log
    outbox.retry(log, 1000)
    assert outbox.take() is span


def test_close_lets_a_waiting_sender_go_and_a_waiting_flush_see_it() -> None:
    """Both return at once."""
    outbox = Outbox(SIGNALS, LIMIT)
    outbox.offer(batch(), never)
    flying = outbox.take()
    assert flying is not None
    sender, taken = in_thread(outbox.take)
    flush, settled = in_thread(lambda: outbox.wait_settled(1, time.monotonic() + 60))
    assert outbox.close() == [flying]
    sender.join(5)
    flush.join(5)
    assert taken == [None] or not sender.is_alive()
    assert len(settled) == 1
    assert outbox.settle(flying, lambda: None) is False


def test_an_outcome_is_counted_before_a_waiting_flush_goes_on() -> None:
    """Else a flush would report a ledger that does not add up, or success after a refusal."""
    outbox = Outbox(SIGNALS, LIMIT)
    small = batch(size=60)
    outbox.offer(small, never)
    assert outbox.take() is small
    flush, settled = in_thread(lambda: outbox.wait_settled(1, time.monotonic() + 60))

    def count() -> None:
        flush.join(0.1)
        counted.append(flush.is_alive())

    counted: list[bool] = []
    assert outbox.settle(small, count)
    flush.join(5)
    assert (counted, settled) == ([True], [True])

    outbox.offer(batch(size=60), never)
    flush, settled = in_thread(lambda: outbox.wait_settled(2, time.monotonic() + 60))
    outbox.offer(batch(size=60), lambda evicted: count())
    flush.join(5)
    assert (counted, settled) == ([True, True], [True])


def test_wait_settled_keeps_its_deadline() -> None:
    """Also one that has passed already."""
    outbox = Outbox(SIGNALS, LIMIT)
    outbox.offer(batch(), never)
    began = time.monotonic()
    assert not outbox.wait_settled(1, began + 0.1)
    assert 0.09 < time.monotonic() - began < 5
    assert not outbox.wait_settled(1, began - 10)
    assert outbox.wait_settled(0, began - 10)


def test_a_batch_that_is_larger_than_everything_goes_alone() -> None:
    """It does not take the others with it where that would not help."""
    outbox = Outbox(SIGNALS, LIMIT)
    small, huge = batch(size=10), batch(size=LIMIT + 1)
    evicted: list[Batch] = []
    outbox.offer(small, evicted.append)
    outbox.offer(huge, evicted.append)
    assert evicted == [huge]
    assert outbox.records("traces") == 1
