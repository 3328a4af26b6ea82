"""A spool's folder that is a symbolic link, somebody else's, or unwritable is refused; ours is private."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.faults.spooled import next_start, nobody, run_service, segments
from tests.support.sink import Sink
from tests.support.slow import slow

LEAVE = """
with otelkit.span("left"): pass
report = otelkit.shutdown()
print(report.spooled > 0, report.dropped.get("shutdown", 0) > 0)
"""


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    """0700 and 0600, whatever the umask."""
    with nobody() as port:
        assert run_service("os.umask(0)\n" + LEAVE, port, tmp_path).out == "True False\n"
    found = list(tmp_path.glob("state/spool/**/*"))
    assert len(found) > 5
    for path in (tmp_path / "state" / "spool", *found):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("what", ["a link", "of another user", *slow("open to others", "a file")])
def test_a_folder_that_is_not_ours_alone_is_refused(tmp_path: Path, what: str) -> None:
    """Nothing is written there; one warning, and the end counts what it loses."""
    elsewhere, state = tmp_path / "elsewhere", tmp_path / "state"
    elsewhere.mkdir()
    state.mkdir(mode=0o700)
    spool = state / "spool"
    if what == "a link":
        spool.symlink_to(elsewhere)
    elif what == "a file":
        spool.write_text("no folder")
    else:
        spool.mkdir()
        spool.chmod(0o777 if what == "open to others" else 0o755)
        if what == "of another user":
            if os.geteuid() != 0:
                pytest.skip("only root can give a folder away")
            os.chown(spool, 65534, 65534)
    with nobody() as port:
        finished = run_service(LEAVE, port, tmp_path)
    assert finished.out == "False True\n", finished.err
    assert finished.err.count("batches cannot be kept on disk") == 1
    assert list(elsewhere.iterdir()) == []
    assert not spool.is_dir() or list(spool.iterdir()) == []


@pytest.mark.slow
def test_links_inside_are_not_followed(tmp_path: Path) -> None:
    """A process's folder, its lock or a segment that points elsewhere is nobody's spool."""
    with nobody() as port:
        run_service(LEAVE, port, tmp_path)
    secret = tmp_path / "secret"
    place = segments(tmp_path)[0].parent
    secret.write_bytes(segments(tmp_path)[0].read_bytes())
    (place / "000009.segment").symlink_to(secret)
    planted = place.parent / "1-1"
    planted.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lock").write_text("")
    (tmp_path / "elsewhere" / "000001.segment").write_bytes(secret.read_bytes())
    with Sink(port=port) as sink:
        next_start(sink, tmp_path)
        assert len(sink.named("left")) == 1
    assert secret.exists()
    assert (tmp_path / "elsewhere" / "000001.segment").read_bytes() == secret.read_bytes()
