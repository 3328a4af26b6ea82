"""The outbox: lanes of encoded batches, bounded by bytes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otelkit.config.settings import SIGNALS, Signal
from otelkit.delivery.ledger import DropReason
from otelkit.delivery.outbox import Batch, Outbox
from tests.support.examples import examples

LIMIT = 100


def batch(signal: Signal = "traces", size: int = 10, records: int = 1, key: int = 0) -> Batch:
    """A batch of so many bytes."""
    return Batch(signal, b"x" * size, records, key=key)


def never(evicted: Batch, reason: DropReason) -> None:
    """For tests in which nothing has to go."""
    raise AssertionError(f"{evicted} was evicted: {reason}")


class Model(RuleBasedStateMachine):
    """Compares the outbox with lists of what is waiting, oldest first: of now, read back, and on disk."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(SIGNALS, LIMIT)
        self.waiting: list[Batch] = []
        self.recalled: list[Batch] = []
        self.on_disk: list[Batch] = []
        self.paused: set[Signal] = set()
        self.failing: set[Signal] = set()
        self.flying: Batch | None = None
        self.served: list[Signal] = []
        self.recalled_last: dict[Signal, bool] = {}
        self.closed = False
        self.offered = 0

    def used(self) -> int:
        """Bytes in memory."""
        return sum(len(found.body) for found in (*self.waiting, *self.recalled))

    @rule(
        signal=st.sampled_from(SIGNALS), size=st.integers(0, 130), records=st.integers(1, 5), key=st.integers(0, 2)
    )  # fmt: skip
    def offer(self, signal: Signal, size: int, records: int, key: int) -> None:
        """What it supersedes goes where the lane fails; then the oldest that does not fly, and only as many as must."""
        made = batch(signal, size, records, key)
        evicted: list[tuple[Batch, DropReason]] = []
        gone = self.outbox.offer(made, lambda old, reason: evicted.append((old, reason)))
        assert gone == [old for old, _ in evicted]
        if self.closed or size > LIMIT:
            assert evicted == [(made, DropReason.PENDING_FULL)]
            return
        self.offered += 1
        expected: list[tuple[Batch, DropReason]] = []
        if key and signal in self.failing:
            for old in (*self.recalled, *self.waiting):
                if old.signal == signal and old.key == key and old is not self.flying:
                    expected.append((old, DropReason.SUPERSEDED))
                    (self.recalled if old in self.recalled else self.waiting).remove(old)
        self.waiting.append(made)
        while self.used() > LIMIT:
            candidates = [found for found in self.waiting if found is not self.flying]
            if not candidates:
                break
            oldest = min(candidates, key=lambda found: found.sequence)
            self.waiting.remove(oldest)
            expected.append((oldest, DropReason.PENDING_FULL))
        assert evicted == expected
        assert self.outbox.last_sequence == self.offered

    def lane(self, signal: Signal) -> tuple[list[Batch], list[Batch]]:
        """What waits of a signal: of now, and read back."""
        return (
            [found for found in self.waiting if found.signal == signal],
            [found for found in self.recalled if found.signal == signal],
        )

    def due(self) -> Batch | None:
        """Of the lanes without a pause the one that was served the longest time ago: its oldest batch, in turn with
        its oldest one from the disk.
        """
        lanes = {signal: self.lane(signal) for signal in SIGNALS if signal not in self.paused}
        there = {signal: lane for signal, lane in lanes.items() if lane[0] or lane[1]}
        if not there:
            return None

        def turn(signal: Signal) -> tuple[int, int]:
            live, recalled = there[signal]
            return self.served.index(signal) if signal in self.served else -1, (recalled or live)[0].sequence

        signal = min(there, key=turn)
        live, recalled = there[signal]
        from_disk = bool(recalled) and not (live and self.recalled_last.get(signal, False))
        self.recalled_last[signal] = from_disk
        return (recalled if from_disk else live)[0]

    @precondition(
        lambda self: (
            self.flying is None
            and not self.closed
            and any(found.signal not in self.paused for found in (*self.waiting, *self.recalled))
        )
    )
    @rule()
    def take(self) -> None:
        """One lane after the other."""
        expected = self.due()
        self.flying = self.outbox.take(SIGNALS)
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
                self.failing.add(self.flying.signal)
            else:
                (self.recalled if self.flying in self.recalled else self.waiting).remove(self.flying)
                self.paused.discard(self.flying.signal)
                self.failing.discard(self.flying.signal)
        self.flying = None

    @precondition(lambda self: not self.closed)
    @rule(takes=st.sets(st.sampled_from(SIGNALS)), fails=st.booleans())
    def spill(self, takes: set[Signal], fails: bool) -> None:
        """Of failing lanes all; of the others so much that half of the room is free. A full disk gives it back."""
        free = [found for found in self.waiting if found is not self.flying and found.signal in takes]
        expected = [found for found in free if found.signal in self.failing]
        left = self.used() - sum(len(found.body) for found in expected)
        for found in free:
            if found not in expected and left > LIMIT // 2:
                expected.append(found)
                left -= len(found.body)
        spilled = self.outbox.spill(takes.__contains__)
        assert {found.sequence for found in spilled} == {found.sequence for found in expected}
        for found in spilled:
            self.waiting.remove(found)
            if fails:
                self.outbox.put_back(found)
                self.waiting = sorted((*self.waiting, found), key=lambda waiting: waiting.sequence)
            else:
                self.on_disk.append(found)

    @precondition(lambda self: self.on_disk)
    @rule(lost=st.booleans())
    def from_disk(self, lost: bool) -> None:
        """A batch is read back, or is gone there."""
        found = self.on_disk[0]
        if lost:
            self.outbox.discard(found.sequence)
        else:
            wanted = not self.closed and len(self.lane(found.signal)[1]) < 2
            assert self.outbox.wants(found.signal) is wanted
            if not wanted:
                return
            assert self.outbox.recall(found)
            self.recalled.append(found)
        self.on_disk.remove(found)

    @rule()
    def hurry(self) -> None:
        """Ends every pause."""
        self.outbox.hurry()
        self.paused.clear()

    @rule()
    def close(self) -> None:
        """What is left comes back, oldest first; nothing is taken any more."""
        left = self.outbox.close()
        kept = sorted((*self.waiting, *self.recalled), key=lambda found: found.sequence)
        assert [id(found) for found in left] == [id(found) for found in kept]
        self.waiting.clear()
        self.recalled.clear()
        self.on_disk.clear()
        self.closed = True
        assert self.outbox.take(SIGNALS) is None

    @invariant()
    def records_are_counted(self) -> None:
        """By signal, in flight or not."""
        for signal in SIGNALS:
            expected = sum(found.records for lane in self.lane(signal) for found in lane)
            assert self.outbox.records(signal) == expected

    @invariant()
    def settled_is_known(self) -> None:
        """Nothing unsettled up to a number means that a flush may return; what is on disk is not settled."""
        unsettled = (*self.waiting, *self.recalled, *self.on_disk)
        oldest = min((found.sequence for found in unsettled), default=None)
        last = self.offered
        assert self.outbox.wait_settled(last, 0.0) is (oldest is None)
        if oldest is not None:
            assert self.outbox.wait_settled(oldest - 1, 0.0)
            assert not self.outbox.wait_settled(oldest, 0.0)


Model.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
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
    thread, results = in_thread(lambda: outbox.take(SIGNALS))
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
    assert outbox.take(SIGNALS) is offered
    outbox.retry(offered, 0.2)
    began = time.monotonic()
    assert outbox.take(SIGNALS) is offered
    assert 0.19 <= time.monotonic() - began < 5
    outbox.retry(offered, 1000)
    thread, results = in_thread(lambda: outbox.take(SIGNALS))
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
    assert outbox.take(SIGNALS) is log
    outbox.retry(log, 1000)
    assert outbox.take(SIGNALS) is span


def test_close_lets_a_waiting_sender_go_and_a_waiting_flush_see_it() -> None:
    """Both return at once."""
    outbox = Outbox(SIGNALS, LIMIT)
    outbox.offer(batch(), never)
    flying = outbox.take(SIGNALS)
    assert flying is not None
    sender, taken = in_thread(lambda: outbox.take(SIGNALS))
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
    assert outbox.take(SIGNALS) is small
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
    outbox.offer(batch(size=60), lambda evicted, reason: count())
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
    evicted: list[tuple[Batch, DropReason]] = []
    for each in (small, huge):
        outbox.offer(each, lambda old, reason: evicted.append((old, reason)))
    assert evicted == [(huge, DropReason.PENDING_FULL)]
    assert outbox.records("traces") == 1


def test_an_end_gives_up_what_fails_again_and_waits_elsewhere() -> None:
    """Only where that can wait on disk; and only after one more attempt, since the next hop may be back."""
    outbox = Outbox(SIGNALS, LIMIT)
    offered = batch()
    outbox.offer(offered, never)
    assert outbox.take(SIGNALS) is offered
    outbox.retry(offered, 1000)
    outbox.hurry()
    began = time.monotonic()
    assert not outbox.wait_settled(1, began + 0.1, gives_up=lambda signal: True)
    assert time.monotonic() - began >= 0.09
    assert outbox.take(SIGNALS) is offered
    outbox.retry(offered, 1000)
    assert not outbox.wait_settled(1, time.monotonic() + 60, gives_up=lambda signal: True)
    began = time.monotonic()
    assert not outbox.wait_settled(1, began + 0.1, gives_up=lambda signal: False)
    assert time.monotonic() - began >= 0.09


def test_an_outcome_that_comes_while_a_batch_is_counted_counts_nothing_twice() -> None:
    """The end of the process counts what was left; the sender's answer comes in the middle of that."""

    class Late(Counter[DropReason | None]):
        def total(self) -> int:
            before = super().total()
            self[None] = 5
            return before

    left = batch(records=5)
    left.fates = Late()
    assert left.ended(DropReason.SHUTDOWN).total() == 5


def test_a_sender_takes_what_goes_to_its_next_hop_alone() -> None:
    """It does not wait for a batch of another's, and has its own pauses."""
    outbox = Outbox(SIGNALS, LIMIT)
    span, log = batch("traces"), batch("logs")
    for made in (log, span):
        outbox.offer(made, never)
    assert outbox.take(["traces", "metrics"]) is span
    assert outbox.take_due(["metrics"]) is None
    outbox.retry(span, 60.0)
    assert outbox.take_due(["traces"]) is None
    assert outbox.take_due(["logs"]) is log
