"""What is kept, for how long, and what a damaged file does."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from otelkit.viewer import schema
from otelkit.viewer.envelope import Batch
from otelkit.viewer.slices import numbers
from otelkit.viewer.store import Bounds, Store
from tests.support.server import BIN, clean_environment, free_port
from tests.viewer.backend import Backend, running_backend, span, spans_request


@pytest.mark.slow
def test_what_was_received_is_there_after_a_restart(tmp_path: Path) -> None:
    """Everything that was taken before SIGTERM, with what is derived from it."""
    folder = tmp_path / "telemetry"
    with running_backend(tmp_path, "--db", str(folder)) as backend:
        backend.send(spans_request(*(span("kept", trace=n + 1, kind=2, http__route="/x") for n in range(300))))
    with running_backend(tmp_path, "--db", str(folder)) as backend:
        assert backend.get("info")["rows"]["spans"] == 300
        assert backend.get("info")["database"] == str(folder)
        assert backend.get("red")["rows"][0]["requests"] == 300
        backend.send(spans_request(span("more", trace=1000)))
        backend.wait_for_rows(spans=301)
        assert backend.get("traces", q="name:more")["traces"]


@pytest.mark.slow
def test_what_cannot_be_read_is_moved_aside_and_said(tmp_path: Path) -> None:
    """The backend starts, with what else there is."""
    folder = tmp_path / "telemetry"
    with running_backend(tmp_path, "--db", str(folder)) as backend:
        backend.send(spans_request(span("whole")))
        backend.wait_for_rows(spans=1)
    (folder / "000002.duckdb").write_bytes(b"this is no database" * 1000)
    with running_backend(tmp_path, "--db", str(folder)) as backend:
        assert backend.get("info")["rows"]["spans"] == 1
        assert "000002.duckdb cannot be read" in backend.log.read_text()
        backend.send(spans_request(span("more", trace=2)))
        backend.wait_for_rows(spans=2)
    assert (folder / "000002.duckdb.corrupt").read_bytes().startswith(b"this is no database")


@pytest.mark.slow
def test_a_second_viewer_of_the_same_folder_says_so_and_ends(tmp_path: Path) -> None:
    """It neither moves the files aside nor writes into them."""
    folder = tmp_path / "telemetry"
    with running_backend(tmp_path, "--db", str(folder)) as backend:
        second = subprocess.run(
            [str(BIN / "otelkit"), "ui", "--port", "0", "--db", str(folder)],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 1
        assert "another `otelkit ui`" in second.stderr
        assert backend.ask("/api/v1/info").status == 200
    assert not list(folder.glob("*.corrupt*"))


@pytest.mark.slow
def test_a_taken_port_is_said_with_the_variable_to_set(tmp_path: Path) -> None:
    """The next free one is used."""
    port = free_port()
    with running_backend(tmp_path, port=port), (tmp_path / "second.log").open("w+") as output:
        second = subprocess.Popen(
            [str(BIN / "otelkit"), "ui", "--port", str(port)],
            cwd=tmp_path,
            env=clean_environment(PYTHONUNBUFFERED="1"),
            stdout=output,
            stderr=output,
        )
        try:
            end = time.monotonic() + 30
            while "open http" not in (said := (tmp_path / "second.log").read_text()):
                assert time.monotonic() < end, said
                time.sleep(0.05)
        finally:
            second.terminate()
            second.wait(15)
    assert f"port {port} is taken" in said
    assert "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:" in said
    assert f"http://127.0.0.1:{port}\n" not in said


def batch_of(spans: int, start_ns: int | None = None) -> Batch:
    """So many spans of a trace each."""
    batch = Batch()
    now = start_ns or time.time_ns()
    for n in range(spans):
        batch.spans.append((
            (now + n).to_bytes(16, "big"), (n + 1).to_bytes(8, "big"), None, "x", "shop", 2, now + n, 1000, 0, None,
            "t", 1, '{"a":"' + f"{n * 7919 % 100_003}" * 40 + '"}', None, None, None, None, None, None, None, 0,
        ))  # fmt: skip
    batch.settle()
    return batch


def written(store: Store, spans: int) -> None:
    """Writes a batch."""
    for part in batch_of(spans).parts:
        store.write(part)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.slow
def test_the_oldest_slices_go_when_there_are_too_many_rows(tmp_path: Path, in_memory: bool) -> None:
    """Whole files are unlinked; what is left is the newest, at most the bound and a slice."""
    said: list[str] = []
    store = Store(None if in_memory else tmp_path / "db", Bounds(rows=10_000), say=said.append)
    for _ in range(60):
        written(store, 500)
    rows = store.rows()["spans"]
    assert 8_500 <= rows <= 11_000
    assert store.dropped_rows == 30_000 - rows
    with store.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM spans").fetchall() == [(rows,)]
    if not in_memory:
        assert [each.number for each in store.slices] == numbers(tmp_path / "db")
    store.close()
    assert said == []


def test_only_the_newest_slice_has_something_to_merge(tmp_path: Path) -> None:
    """So that an end takes no longer for many slices than for one."""
    store = Store(tmp_path / "db", Bounds(rows=1_000), say=print)
    for _ in range(6):
        written(store, 100)
    assert len(store.slices) > 3
    newest = [f"{store.slices[-1].number:06}.duckdb.wal"]
    end = time.monotonic() + 20
    while (logged := [path.name for path in (tmp_path / "db").glob("*.wal")]) != newest:
        assert time.monotonic() < end, logged
        time.sleep(0.02)
    store.close()
    assert not list((tmp_path / "db").glob("*.wal"))


def test_writing_goes_on_while_a_full_slice_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes; who lets go of the slice, and the end, wait for it."""
    go_on = threading.Event()
    merged: list[str] = []
    merge = Store._merge

    def slow(store: Store, name: str) -> None:
        assert go_on.wait(20)
        merge(store, name)
        merged.append(name)

    monkeypatch.setattr(Store, "_merge", slow)
    store = Store(tmp_path / "db", Bounds(rows=10_000), say=print)
    for _ in range(3):
        written(store, 1_000)
    assert (store.rows()["spans"], len(store.slices), merged) == (3_000, 3, [])
    threading.Timer(0.2, go_on.set).start()
    store.close()
    assert merged == ["s000001", "s000002"]
    assert numbers(tmp_path / "db") == [1, 2, 3]


def test_long_texts_take_little_of_the_disk(tmp_path: Path) -> None:
    """A slice of an earlier version, which has them as DuckDB chose, is read and written on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "LONG_TEXTS", {})
        store = Store(tmp_path / "db", Bounds(rows=30_000), say=print)
        written(store, 2_000)
        store.close()
    store = Store(tmp_path / "db", Bounds(rows=30_000), say=print)
    written(store, 1_500)
    written(store, 2_000)
    assert len(store.slices) == 2
    store.close()
    store = Store(tmp_path / "db", Bounds(rows=30_000), say=print)
    with store.cursor() as cursor:
        assert cursor.execute("SELECT count(*), sum(length(attributes)) > 0 FROM spans").fetchone() == (5_500, True)
        kinds = cursor.execute(
            "SELECT DISTINCT compression FROM pragma_storage_info('s000002.spans')"
            " WHERE column_name = 'attributes' AND segment_type = 'VARCHAR'"
        ).fetchall()
    store.close()
    assert kinds == [("ZSTD",)]


@pytest.mark.slow
def test_the_size_on_disk_stays_under_the_bound_and_a_slice(tmp_path: Path) -> None:
    """As the file system has it."""
    most = 20 << 20
    store = Store(tmp_path / "db", Bounds(bytes=most), say=print)
    highest = 0
    for _ in range(40):
        written(store, 10_000)
        highest = max(highest, sum(path.stat().st_size for path in (tmp_path / "db").iterdir() if path.is_file()))
    assert store.dropped_rows > 0
    assert highest <= most * 1.5
    store.close()


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    """Also where nothing new comes in."""
    store = Store(tmp_path / "db", Bounds(age_s=1.0), say=print)
    written(store, 10)
    end = time.monotonic() + 20
    while store.rows()["spans"]:
        assert time.monotonic() < end
        time.sleep(0.1)
        store.trim()
    store.close()


@pytest.mark.slow
def test_a_disk_that_is_full_is_said_once_and_writing_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """What could not be written is counted as lost, what was written before is still answered."""
    folder = tmp_path / "telemetry"
    with running_backend(tmp_path, "--db", str(folder)) as backend:
        backend.send(spans_request(span("before", trace=1)))
        backend.wait_for_rows(spans=1)
        process = psutil.Process(backend.process.pid)
        size = max(path.stat().st_size for path in folder.iterdir() if path.is_file())
        process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))
        for n in range(2):
            backend.send(spans_request(*(span("lost", trace=10 + n, number=k + 1, x="y" * 999) for k in range(200))))
            backend.wait(lambda n=n: lost(backend) == 200 * (n + 1), "what was lost is counted")  # type: ignore[misc]
        assert [row["name"] for row in backend.get("traces")["traces"]] == ["before"]
        assert backend.get("info")["behind"] is True
        process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        backend.send(spans_request(span("after", trace=99)))
        backend.wait(lambda: not backend.get("info")["behind"], "writing goes on")
        assert {row["name"] for row in backend.get("traces")["traces"]} == {"before", "after"}
        assert backend.log.read_text().count("could not be written") == 1
    with running_backend(tmp_path, "--db", str(folder)) as backend:
        assert {row["name"] for row in backend.get("traces")["traces"]} == {"before", "after"}


def lost(backend: Backend) -> int:
    """How many records could not be written."""
    return int(backend.get("health")["viewer"]["dropped"]["not_written"])
