"""The spool of one signal: order, what it drops, and whose it is."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otelkit.delivery import places
from otelkit.delivery.ledger import DropReason
from otelkit.delivery.places import Frame
from otelkit.delivery.store import Adopted, Store
from tests.support.examples import examples


def a_store(folder: Path, dropped: Counter[DropReason] | None = None, **changes: Any) -> Store:
    """A store of small segments; what it drops is counted by reason, in records."""
    counted: Counter[DropReason] = Counter() if dropped is None else dropped

    def count(reason: DropReason, records: int, sequence: int) -> None:
        counted[reason] += records

    fields: dict[str, Any] = {"segment_bytes": 200, "max_age_s": 3600.0}
    return Store(folder / "shop-1", dropped=count, **{**fields, **changes})


def put(store: Store, body: bytes, records: int = 1, *, key: int = 0, live: bool = False) -> Frame:
    """Appends a batch."""
    return store.append(body, records, raw=len(body), key=key, sequence=0, live=live)


def bodies(store: Store) -> list[bytes]:
    """Reads everything that waits, and notes it as done."""
    found = []
    while (each := store.next()) is not None:
        frame, body = each
        found.append(body)
        store.done(frame)
    return found


def by_number(body: bytes) -> int:
    """The order in which the model's batches were made."""
    return int(body.split()[0])


class Model(RuleBasedStateMachine):
    """Three stores of three processes in one folder, against lists; a process may die, and be started again."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.stores = [a_store(self.folder) for _ in range(3)]
        self.waiting: list[list[bytes]] = [[], [], []]
        self.out: list[list[tuple[Frame, bytes]]] = [[], [], []]
        self.orphans: list[list[bytes]] = []
        self.number = 0

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.temporary.cleanup()

    @rule(who=st.integers(0, 2), size=st.integers(0, 150))
    def append(self, who: int, size: int) -> None:
        """A batch waits."""
        self.number += 1
        body = b"%d " % self.number + b"x" * size
        put(self.stores[who], body)
        self.waiting[who].append(body)

    @rule(who=st.integers(0, 2))
    def read(self, who: int) -> None:
        """The oldest one is in memory."""
        found = self.stores[who].next()
        if found is None:
            assert self.waiting[who] == []
            return
        assert found[1] == self.waiting[who].pop(0)
        self.out[who].append(found)

    @precondition(lambda self: any(self.out))
    @rule(data=st.data(), sent=st.booleans())
    def settle(self, data: st.DataObject, sent: bool) -> None:
        """It is sent, or waits again, in its old place."""
        who = data.draw(st.sampled_from([who for who in range(3) if self.out[who]]))
        frame, body = self.out[who].pop(0)
        if sent:
            self.stores[who].done(frame)
        else:
            self.stores[who].give_back(frame)
            self.waiting[who] = sorted([*self.waiting[who], body], key=by_number)

    @rule(who=st.integers(0, 2), clean=st.booleans())
    def die(self, who: int, clean: bool) -> None:
        """What waited, and what was in memory and not sent, is left."""
        left = self.waiting[who] + [body for _, body in self.out[who]]
        if clean:
            self.stores[who].close()
        else:
            self.stores[who].abandon()  # the kernel closes the files, and so lets the locks go
        if left:
            self.orphans.append(left)
        self.waiting[who], self.out[who] = [], []
        self.stores[who] = a_store(self.folder)

    @rule(who=st.integers(0, 2))
    def adopt(self, who: int) -> None:
        """Everything that is left is one's now, in the order in which it was written, and nobody else's."""
        found = self.stores[who].adopt()
        left = [body for orphan in self.orphans for body in orphan]
        assert found == Adopted(len(left), 0)
        self.orphans = []
        self.waiting[who] = sorted(self.waiting[who] + left, key=by_number)
        others = [other for other in range(3) if other != who]
        assert [self.stores[other].adopt() for other in others] == [Adopted(), Adopted()]

    @invariant()
    def it_says_whether_something_waits(self) -> None:
        """Without a look at the disk."""
        assert [store.waits for store in self.stores] == [bool(waiting) for waiting in self.waiting]


Model.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
TestStore = Model.TestCase


def test_nothing_is_left_of_what_was_sent(tmp_path: Path) -> None:
    """Neither a segment nor a folder; the service's own stays."""
    store = a_store(tmp_path)
    for number in range(20):
        put(store, b"%d" % number)
    assert len(list(tmp_path.glob("*/*/*.segment"))) > 2
    assert bodies(store) == [b"%d" % number for number in range(20)]
    store.close()
    assert list(tmp_path.glob("*/*")) == []


def test_a_later_batch_with_the_same_number_takes_the_place(tmp_path: Path) -> None:
    """Of metrics the newest sums say all; other numbers stay."""
    dropped: Counter[DropReason] = Counter()
    store = a_store(tmp_path, dropped)
    put(store, b"a1", 3, key=1)
    put(store, b"b1", 5, key=2)
    put(store, b"a2", 4, key=1)
    assert dropped == {DropReason.SUPERSEDED: 3}
    read = store.next()
    assert read is not None
    assert read[1] == b"b1"
    put(store, b"b2", 6, key=2)
    store.give_back(read[0])  # what it says the one that waits says too
    assert dropped == {DropReason.SUPERSEDED: 8}
    store.supersede(2)
    store.supersede(2)
    assert dropped == {DropReason.SUPERSEDED: 14}
    assert bodies(store) == [b"a2"]
    store.close()


def test_of_what_is_taken_over_too_the_newest_stays(tmp_path: Path) -> None:
    """Also where it is this process's own."""
    dropped: Counter[DropReason] = Counter()
    dead = a_store(tmp_path)
    put(dead, b"a1", 3, key=1)
    put(dead, b"b1", 5, key=2)
    dead.close()
    store = a_store(tmp_path, dropped)
    put(store, b"a2", 4, key=1)
    assert store.adopt() == Adopted(8, 0)
    assert dropped == {}
    store.drop_superseded()
    assert dropped == {DropReason.SUPERSEDED: 3}
    put(store, b"b2", 6, key=2)
    assert dropped == {DropReason.SUPERSEDED: 8}
    assert bodies(store) == [b"a2", b"b2"]
    store.close()


def test_what_is_too_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own time; also of a process that has died."""
    dropped: Counter[DropReason] = Counter()
    dead = a_store(tmp_path)
    put(dead, b"old", 2)
    dead.close()
    store = a_store(tmp_path, dropped, max_age_s=60.0)
    put(store, b"own", 3)
    store.adopt()
    now_ns = time.time_ns()
    monkeypatch.setattr("otelkit.delivery.store.time.time_ns", lambda: now_ns + 61_000_000_000)
    put(store, b"new", 4)
    store.expire()
    assert dropped == {DropReason.EXPIRED: 5}
    assert bodies(store) == [b"new"]
    store.close()


def test_the_oldest_segment_goes_with_all_that_waits_in_it(tmp_path: Path) -> None:
    """What was read from it before is sent all the same."""
    dropped: Counter[DropReason] = Counter()
    store = a_store(tmp_path, dropped, segment_bytes=250)
    for number in range(9):
        put(store, b"%d" % number)
    read = store.next()
    assert read is not None
    assert store.drop_oldest()
    gone = dropped[DropReason.SPOOL_FULL]
    assert 0 < gone < 8
    assert not read[0].is_kept
    store.done(read[0])
    assert bodies(store) == [b"%d" % number for number in range(gone + 1, 9)]
    assert not store.drop_oldest()
    store.close()


def test_a_live_batch_waits_for_nobody_until_it_is_given_back(tmp_path: Path) -> None:
    """It is on disk: a process that dies leaves it."""
    store = a_store(tmp_path)
    frame = put(store, b"live", live=True)
    assert store.next() is None
    store.give_back(frame)
    put(store, b"live too", live=True)
    store.abandon()
    heir = a_store(tmp_path)
    assert heir.adopt() == Adopted(2, 0)
    assert bodies(heir) == [b"live", b"live too"]
    heir.close()


def test_what_is_known_of_a_batch_after_the_end_closes_nobody_elses_file(tmp_path: Path) -> None:
    """The sender may outlive the end's deadline: what it has sent by then is not sent again, and the number of the
    lock's file is another file's.
    """
    store = a_store(tmp_path)
    frame = put(store, b"late", live=True)
    assert store.next() is None
    lock = frame.segment.place.lock
    with open(os.devnull) as file:
        store.close()
        fd = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, lock)
    assert fd == lock
    store.done(frame)
    os.close(fd)  # raises where somebody has done it already
    heir = a_store(tmp_path)
    assert heir.adopt().waiting == 0
    heir.close()


def test_a_forked_childs_locks_are_not_the_parents(tmp_path: Path) -> None:
    """A parent that has ended is taken over although its child lives; a living parent is not."""
    store = a_store(tmp_path)
    put(store, b"parent's")
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        store.abandon()
        os.read(told, 1)
        os._exit(0)
    try:
        assert a_store(tmp_path).adopt() == Adopted()
        store.close()
        heir = a_store(tmp_path)
        deadline = time.monotonic() + 10
        while heir.adopt() != Adopted(1, 0):  # the child may not have come to abandon yet
            assert time.monotonic() < deadline
        heir.close()
    finally:
        os.write(tell, b"x")
        os.waitpid(child, 0)
        os.close(told)
        os.close(tell)


def test_a_folder_without_a_lock_goes_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maker died between two steps; a young one may still be made."""
    store = a_store(tmp_path)
    empty = store.folder / "1-1"
    empty.mkdir(parents=True)
    store.adopt()
    assert empty.exists()
    monkeypatch.setattr(places, "_EMPTY_FOR_S", -1.0)
    store.adopt()
    assert not empty.exists()


def test_a_write_that_fails_leaves_no_half_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of a frame; the next one fits again."""
    store = a_store(tmp_path, segment_bytes=10_000)
    put(store, b"first")
    whole = os.pwrite

    def full(fd: int, content: bytes, at: int) -> int:
        if len(content) > 90:
            return whole(fd, content[:60], at)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        put(store, b"x" * 100)
    monkeypatch.setattr(os, "pwrite", whole)
    put(store, b"second")
    store.abandon()
    heir = a_store(tmp_path)
    assert heir.adopt() == Adopted(2, 0)
    assert bodies(heir) == [b"first", b"second"]
    heir.close()


def test_what_cannot_be_opened_now_waits(tmp_path: Path) -> None:
    """It is whole, and no damaged one: it is read later."""
    dropped: Counter[DropReason] = Counter()
    store = a_store(tmp_path, dropped)
    segment = put(store, b"first", 5, key=7).segment
    put(store, b"second", 3)
    hidden = segment.path.rename(segment.path.with_suffix(".hidden"))
    segment.path.symlink_to(hidden)  # is not followed
    for _ in range(2):
        with pytest.raises(OSError, match="symbolic links"):
            store.next()
    hidden.rename(segment.path)
    assert bodies(store) == [b"first", b"second"]
    assert dropped == {}
    store.close()


def test_what_is_damaged_is_counted_by_the_first_that_takes_it_over(tmp_path: Path) -> None:
    """The next one counts what was hit since."""
    store = a_store(tmp_path, segment_bytes=1000)
    frames = [put(store, b"%d" % number, 2) for number in range(5)]
    path = frames[0].segment.path
    store.close()

    def hit(place: int) -> None:
        (found,) = path.parent.glob("*.segment")
        content = bytearray(found.read_bytes())
        content[frames[place].header.offset + 9] ^= 1
        found.write_bytes(content)

    for place, expected in ((1, Adopted(8, 2)), (3, Adopted(6, 2)), (3, Adopted(8, 0))):
        hit(place)
        heir = a_store(tmp_path)
        assert heir.adopt() == expected
        heir.close()
