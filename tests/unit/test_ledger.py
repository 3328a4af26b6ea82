"""The ledger: exact counters in a page that outlives its process."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelkit.delivery.ledger import (
    Account,
    DropReason,
    Ledger,
    LedgerPage,
    pages,
    private_directory,
    read_page,
    take_dead_pages,
)
from otelkit.runtime.interpreter import FREE_THREADED
from tests.support.process import kill_session, run_python, start_python


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An open ledger of this process."""
    opened = Ledger(tmp_path / "state", "shop")
    opened.open_page()
    yield opened
    opened.close()


def add(ledger: Ledger, signal_name: str = "traces", **columns: int) -> None:
    """Counts into columns by name: `accepted`, `delivered`, or a drop reason."""
    cells = ledger.signals[signal_name]  # type: ignore[index]
    for column, amount in columns.items():
        named = {"accepted": cells.accepted, "delivered": cells.delivered, "spooled": cells.spooled}
        place = named[column] if column in named else cells.dropped(DropReason(column))
        cells.cells[place] += amount


def test_counts_are_read_back_by_signal_and_reason(ledger: Ledger) -> None:
    """Each signal and each reason has a cell of its own."""
    add(ledger, "traces", accepted=10, delivered=4, spooled=1, queue_full=2)
    add(ledger, "logs", accepted=3, **{reason.value: place for place, reason in enumerate(DropReason, 1)})
    page = ledger.read()
    assert page.accounts["traces"] == Account(10, 4, 1, {DropReason.QUEUE_FULL: 2})
    assert page.accounts["traces"].outstanding == 3
    assert page.accounts["logs"].dropped == {reason: place for place, reason in enumerate(DropReason, 1)}
    assert page.accounts["metrics"] == Account()
    assert page.outstanding == 3 + 3 - sum(range(1, len(DropReason) + 1))


def test_the_page_says_whose_it_is(ledger: Ledger) -> None:
    """Process, start and service, as another process reads them."""
    assert ledger.path is not None
    page = read_page(ledger.path)
    assert (page.pid, page.service, page.started_ns) == (os.getpid(), "shop", ledger.started_ns)


@pytest.mark.parametrize("service", ["", "Bücher-Laden", "x" * 1000, "ü" * 100, "\ud800"])
def test_any_service_name_fits(tmp_path: Path, service: str) -> None:
    """Long ones are cut, and never in a way that makes the page unreadable."""
    ledger = Ledger(tmp_path, service)
    ledger.open_page()
    assert ledger.path is not None
    assert read_page(ledger.path).service.startswith(service[:10].replace("\ud800", "?"))
    ledger.close()


def test_what_was_counted_before_the_page_was_opened_is_in_it(tmp_path: Path) -> None:
    """The first records may come before the file does."""
    ledger = Ledger(tmp_path, "shop")
    assert list(tmp_path.iterdir()) == []
    add(ledger, accepted=5)
    ledger.open_page()
    add(ledger, accepted=1)
    assert ledger.path is not None
    assert read_page(ledger.path).accounts["traces"].accepted == ledger.read().accounts["traces"].accepted == 6
    ledger.close()


def test_folder_and_file_are_the_users_alone(ledger: Ledger, tmp_path: Path) -> None:
    """0700 and 0600, whatever the umask is."""
    assert ledger.path is not None
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600


def test_a_wide_open_umask_changes_nothing(tmp_path: Path) -> None:
    """Containers like to run with umask 0."""
    old = os.umask(0)
    try:
        ledger = Ledger(tmp_path / "state", "shop")
        ledger.open_page()
    finally:
        os.umask(old)
    assert ledger.path is not None
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    ledger.close()


@pytest.mark.parametrize("target", ["folder", "nothing"])
def test_a_symbolic_link_instead_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    """Whoever may write into /tmp must not choose where we write; counting goes on in memory."""
    elsewhere = tmp_path / "elsewhere"
    if target == "folder":
        elsewhere.mkdir()
    (tmp_path / "state").symlink_to(elsewhere)
    ledger = Ledger(tmp_path / "state", "shop")
    ledger.open_page()
    assert ledger.path is None
    assert isinstance(ledger.file_error, OSError)
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []
    add(ledger, accepted=2)
    assert ledger.read().accounts["traces"].accepted == 2
    ledger.close()


def test_a_folder_that_others_may_write_into_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """OTELKIT_STATE_DIR=/tmp under root must not make /tmp root's alone."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    ledger = Ledger(shared, "shop")
    ledger.open_page()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    assert isinstance(ledger.file_error, PermissionError)
    assert str(shared) in str(ledger.file_error)


def test_a_folder_that_cannot_be_made_leaves_the_counters_in_memory(tmp_path: Path) -> None:
    """A file stands where the folder should be: the error is kept, the counts too, and nothing is tried again."""
    (tmp_path / "file").write_text("")
    ledger = Ledger(tmp_path / "file" / "state", "shop")
    add(ledger, accepted=1)
    ledger.open_page()
    add(ledger, accepted=1)
    assert isinstance(ledger.file_error, OSError)
    first = ledger.file_error
    ledger.open_page()
    assert ledger.file_error is first
    assert ledger.read().accounts["traces"].accepted == 2
    ledger.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to try it")
def test_a_folder_without_write_permission_leaves_the_counters_in_memory(tmp_path: Path) -> None:
    """As a service user would meet it."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent != Path("/") and stat.S_IMODE(parent.stat().st_mode) & 0o005 != 0o005:
            parent.chmod(0o755)
    (tmp_path / "roots").mkdir(mode=0o755)
    found = run_python(
        f"""
        import os
        from pathlib import Path
        from otelkit.delivery.ledger import Ledger
        os.setgid(65534); os.setuid(65534)
        ledger = Ledger(Path({str(tmp_path)!r}) / "roots" / "state", "shop")
        ledger.open_page()
        print(type(ledger.file_error).__name__, ledger.path)
        """,
        cwd=tmp_path,
    )
    assert found.out.split() == ["PermissionError", "None"]


def test_closing_removes_the_file_and_keeps_the_counts(tmp_path: Path) -> None:
    """The numbers are what shutdown reports; late counts are still counted; closing twice is harmless."""
    ledger = Ledger(tmp_path, "shop")
    ledger.open_page()
    add(ledger, accepted=3)
    ledger.close()
    assert list(tmp_path.iterdir()) == []
    add(ledger, accepted=1, after_shutdown=1)
    assert ledger.read().accounts["traces"] == Account(4, 0, 0, {DropReason.AFTER_SHUTDOWN: 1})
    ledger.close()


@pytest.mark.parametrize("content", [b"", b"OTELKIT1", b"OTELKIT2" + bytes(2000), bytes(100_000)])
def test_a_file_that_is_no_page_is_passed_over(tmp_path: Path, ledger: Ledger, content: bytes) -> None:
    """Of another version, cut, or somebody else's: the readable ones are still found, none is deleted."""
    other = tmp_path / "state" / "1-1.ledger"
    other.write_bytes(content)
    with pytest.raises(ValueError, match="not a ledger page"):
        read_page(other)
    assert [page.pid for _, page in pages(tmp_path / "state")] == [os.getpid()]
    assert list(take_dead_pages(tmp_path / "state")) == []
    assert other.exists()


def test_who_dies_before_it_has_told_of_a_page_leaves_it(tmp_path: Path) -> None:
    """To the next one; a page that was told is gone."""
    process = start_python(CHILD, cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    finally:
        kill_session(process)
    taken = take_dead_pages(tmp_path / "state")
    assert next(taken).pid == process.pid
    del taken
    assert [page.pid for page in take_dead_pages(tmp_path / "state")] == [process.pid]
    assert list(take_dead_pages(tmp_path / "state")) == []


def test_no_folder_is_no_pages(tmp_path: Path) -> None:
    """Before the first process ever ran."""
    assert list(pages(tmp_path / "missing")) == []
    assert list(take_dead_pages(tmp_path / "missing")) == []


def test_a_page_that_vanishes_while_the_folder_is_read_hides_no_other(tmp_path: Path) -> None:
    """Processes end at any moment, also between the listing and the reading; a dangling name stands for one."""
    (tmp_path / "0-0.ledger").symlink_to(tmp_path / "gone")
    ledger = Ledger(tmp_path, "shop")
    ledger.open_page()
    assert [page.pid for _, page in pages(tmp_path)] == [os.getpid()]
    ledger.close()


CHILD = """
import os, sys
from pathlib import Path
from otelkit.delivery.ledger import DropReason, Ledger
ledger = Ledger(Path(os.environ["OTELKIT_STATE_DIR"]), "killed")
ledger.open_page()
cells = ledger.signals["logs"]
cells.cells[cells.accepted] += 10
cells.cells[cells.delivered] += 3
cells.cells[cells.dropped(DropReason.REFUSED)] += 1
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_page_of_a_living_process_is_readable_and_not_for_the_taking(tmp_path: Path) -> None:
    """By path alone, without a word from that process."""
    process = start_python(CHILD, cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        ((_, page),) = pages(tmp_path / "state")
        assert (page.pid, page.service) == (process.pid, "killed")
        assert page.accounts["logs"] == Account(10, 3, 0, {DropReason.REFUSED: 1})
        assert list(take_dead_pages(tmp_path / "state")) == []
    finally:
        kill_session(process)


def test_a_killed_processs_page_is_taken_exactly_once(tmp_path: Path) -> None:
    """Four processes that start at the same moment find it; one reports it, and it is gone."""
    process = start_python(CHILD, cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    finally:
        kill_session(process)
    takers = [
        start_python(
            """
            import os, sys
            from pathlib import Path
            from otelkit.delivery.ledger import take_dead_pages
            print("ready", flush=True)
            sys.stdin.read()
            for page in take_dead_pages(Path(os.environ["OTELKIT_STATE_DIR"])):
                print(page.pid, page.service, page.outstanding)
            """,
            cwd=tmp_path,
        )
        for _ in range(4)
    ]
    taken = []
    try:
        for taker in takers:
            assert taker.stdout is not None
            assert taker.stdout.readline() == "ready\n"
        for taker in takers:
            assert taker.stdin is not None
            taker.stdin.close()
            taker.stdin = None
        for taker in takers:
            out, err = taker.communicate(timeout=20)
            assert taker.returncode == 0, err
            taken += out.splitlines()
    finally:
        for taker in takers:
            kill_session(taker)
    assert taken == [f"{process.pid} killed 6"]
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize("locked", [False, True])
def test_eight_threads_lose_no_count(ledger: Ledger, locked: bool) -> None:
    """`cells[i] += n` needs no lock as long as nothing is called between load and store; without the interpreter's
    lock there is one.
    """
    if FREE_THREADED and not locked:
        pytest.skip("a free-threaded build takes the lock")
    cells = ledger.signals["traces"]
    cells.lock = threading.Lock() if locked else None
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(30_000):
            cells.add(cells.accepted, 1)
            if cells.lock is None:
                cells.cells[cells.delivered] += 2
            else:
                cells.add(cells.delivered, 2)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    account = ledger.read().accounts["traces"]
    assert (account.accepted, account.delivered) == (240_000, 480_000)


def test_a_forked_child_that_forgets_leaves_the_parents_page_alone(ledger: Ledger) -> None:
    """Neither its file nor its numbers change by what a child still counts."""
    add(ledger, accepted=1)
    assert ledger.path is not None
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            ledger.forget()
            add(ledger, accepted=5)
            ledger.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert ledger.path.exists()
    assert read_page(ledger.path).accounts["traces"].accepted == 1
    assert list(take_dead_pages(ledger.path.parent)) == []


def test_the_order_of_reasons_is_the_pages_and_may_only_grow() -> None:
    """An old process's page is read by a newer one: this list is only ever added to."""
    assert [reason.value for reason in DropReason][:8] == [
        "queue_full",
        "encode_failed",
        "pending_full",
        "refused",
        "too_large",
        "rejected",
        "shutdown",
        "after_shutdown",
    ]
    assert len(DropReason) <= 28  # what a signal's 32 cells have room for


def test_a_full_disk_leaves_the_counters_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mapping a file that has no room would kill the process by SIGBUS at the first count, so room is made first."""
    import resource

    ledger = Ledger(tmp_path, "shop")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
        ledger.open_page()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert isinstance(ledger.file_error, OSError)
    add(ledger, accepted=1)
    assert ledger.read().accounts["traces"].accepted == 1
    assert list(tmp_path.glob("*.ledger")) == []


def test_a_page_is_small(ledger: Ledger) -> None:
    """One page of memory a process."""
    assert ledger.path is not None
    assert ledger.path.stat().st_size <= mmap.PAGESIZE


def test_making_the_folder_twice_is_the_same_folder(tmp_path: Path) -> None:
    """Every process of a service does it."""
    private_directory(tmp_path / "a" / "b")
    private_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_the_report_of_an_empty_page_is_balanced() -> None:
    """Nothing accepted, nothing outstanding."""
    assert LedgerPage(1, 1, "s", {"traces": Account()}).outstanding == 0
