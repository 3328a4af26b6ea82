"""The bounded queue of one signal: takes records of any thread and loses none unaccounted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otelkit.delivery.caps import Heavy
from otelkit.delivery.ledger import Account, DropReason, Ledger
from otelkit.delivery.queue import QueueLimits, SignalQueue


class Made:
    """A queue with its ledger, and how often it called."""

    def __init__(self, directory: Path, *, most: int = 10, batch: int = 4) -> None:
        self.ledger = Ledger(directory, "shop")
        self.starts = 0
        self.wakes = 0
        self.queue: SignalQueue[int] = SignalQueue(
            self.ledger.signals["traces"],
            QueueLimits(most, batch, 1.0),
            weigh=lambda _: None,
            start=self.start,
            wake=self.wake,
        )

    def start(self) -> None:
        self.starts += 1
        self.queue.started = True

    def wake(self) -> None:
        self.wakes += 1

    @property
    def account(self) -> Account:
        return self.ledger.read().accounts["traces"]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_records_come_out_in_order_and_in_batches(made: Made) -> None:
    """Oldest first, never more than a batch, and an empty one at the end."""
    for number in range(9):
        made.queue.put(number)
    assert [made.queue.take(), made.queue.take(), made.queue.take(), made.queue.take()] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8],
        [],
    ]
    assert made.account == Account(accepted=9)


def test_the_first_record_starts_the_threads_and_only_the_first(made: Made) -> None:
    """Nothing exists before it."""
    assert made.starts == 0
    for number in range(3):
        made.queue.put(number)
    assert made.starts == 1


def test_the_worker_is_woken_when_a_batch_is_full_and_not_before(made: Made) -> None:
    """A wake a record would cost more than the record."""
    for number in range(3):
        made.queue.put(number)
    assert made.wakes == 0
    made.queue.put(3)
    assert made.wakes == 1
    made.queue.put(4)
    assert made.wakes == 1


def test_beyond_the_bound_new_records_are_dropped_and_counted(made: Made) -> None:
    """What is queued stays."""
    for number in range(25):
        made.queue.put(number)
    assert made.account == Account(25, dropped={DropReason.QUEUE_FULL: 15})
    assert made.queue.take() == [0, 1, 2, 3]
    assert len(made.queue.records) == 6


def test_after_the_end_records_are_counted_and_not_kept(made: Made) -> None:
    """Emitting after shutdown is no error and no leak."""
    made.queue.closed = True
    for number in range(3):
        made.queue.put(number)
    assert made.account == Account(3, dropped={DropReason.AFTER_SHUTDOWN: 3})
    assert made.queue.take() == []


def test_a_sweep_counts_what_is_left(made: Made) -> None:
    """The end of the process with records in the queue."""
    for number in range(6):
        made.queue.put(number)
    made.queue.sweep()
    assert made.account == Account(6, dropped={DropReason.SHUTDOWN: 6})
    assert made.queue.take() == []


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that hand over as often as the interpreter lets them, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def take_all(
    queue: SignalQueue[int], barrier: threading.Barrier, taken: list[int], failures: list[BaseException]
) -> None:
    """The worker's side until nothing is left: the sizes of its batches, or what went wrong."""
    barrier.wait()
    try:
        while batch := queue.take():
            taken.append(len(batch))
    except BaseException as error:  # noqa: BLE001 - the test shows it
        failures.append(error)


@pytest.mark.usefixtures("restless")
def test_a_sweep_beside_a_taking_worker_loses_no_record(tmp_path: Path) -> None:
    """Shutdown's deadline may end while the worker is in the middle of taking: each record is one side's."""
    for _ in range(10):
        made = Made(tmp_path, most=1 << 20, batch=5_000)
        for number in range(5_000):
            made.queue.put(number)
        taken: list[int] = []
        failures: list[BaseException] = []
        barrier = threading.Barrier(2)

        worker = threading.Thread(target=take_all, args=(made.queue, barrier, taken, failures))
        worker.start()
        barrier.wait()
        made.queue.sweep()
        worker.join()
        assert failures == []
        assert sum(taken) + made.account.dropped.get(DropReason.SHUTDOWN, 0) == 5_000


@pytest.mark.parametrize("close_at", ["never", "in the middle"])
def test_every_record_of_many_threads_is_taken_or_counted(tmp_path: Path, close_at: str) -> None:
    """The bound may be passed by as many records as threads emit at one instant, and by no more."""
    made = Made(tmp_path, most=100, batch=10)
    threads = 6
    each = 5_000
    largest = 0
    done = threading.Event()
    taken: list[int] = []

    def emit() -> None:
        for number in range(each):
            made.queue.put(number)

    def take() -> None:
        nonlocal largest
        while not done.is_set() or made.queue.records:
            largest = max(largest, len(made.queue.records))
            taken.extend(made.queue.take())
            if close_at != "never" and len(taken) > 2_000:
                made.queue.closed = True

    emitters: list[Callable[[], None]] = [emit] * threads
    running = [threading.Thread(target=target) for target in (*emitters, take)]
    for thread in running:
        thread.start()
    for thread in running[:-1]:
        thread.join()
    done.set()
    running[-1].join()
    account = made.account
    assert account.accepted == threads * each
    assert account.accepted == len(taken) + sum(account.dropped.values())
    assert largest <= 100 + threads


def test_heavy_records_are_bounded_by_their_bytes(tmp_path: Path) -> None:
    """The bytes of what was taken out are free again; a light record enters a queue that is full of heavy ones."""
    ledger = Ledger(tmp_path, "test")
    account = ledger.signals["traces"]
    queue: SignalQueue[str] = SignalQueue(
        account,
        QueueLimits(100, 10, 1.0, max_bytes=1000),
        weigh=lambda text: Heavy(text.upper(), len(text), 1) if len(text) > 10 else None,
        start=lambda: None,
        wake=lambda: None,
    )
    texts = ["a" * 600, "b" * 300, "c" * 200, "d" * 5]
    for text in texts:
        queue.put(text)
    assert list(queue.records) == ["A" * 600, "B" * 300, "d" * 5]
    queue.take()
    queue.put("e" * 1000)
    queue.put("f" * 11)
    assert list(queue.records) == ["E" * 1000]
    found = ledger.read().accounts["traces"]
    assert (found.accepted, found.dropped, found.truncated) == (6, {DropReason.QUEUE_FULL: 2}, 3)
    assert found.outstanding == 4  # three were taken out, one is in the queue


def test_a_record_that_cannot_be_weighed_enters(tmp_path: Path) -> None:
    def weigh(_: int) -> None:
        raise RuntimeError("a mapping of the application's")

    queue: SignalQueue[int] = SignalQueue(
        Ledger(tmp_path, "test").signals["traces"],
        QueueLimits(100, 10, 1.0),
        weigh=weigh,
        start=lambda: None,
        wake=lambda: None,
    )
    queue.put(1)
    assert list(queue.records) == [1]
