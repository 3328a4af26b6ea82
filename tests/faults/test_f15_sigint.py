"""Fault 15: SIGINT while 1000 spans are queued. All arrive, and whoever handles it goes on doing so."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.stopped import arrived, stopped
from tests.support.sink import Sink

DEFAULT = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's background jobs ignore it
HANDLER = r"""
def handler(number, frame):
    os.write(1, b"mine\n")
    sys.exit(3)
signal.signal(signal.SIGINT, handler)
"""


def test_a_keyboard_interrupt(sink: Sink, tmp_path: Path) -> None:
    """It is raised, and ends the program as ever."""
    finished = stopped(signal.SIGINT, sink, tmp_path, before=DEFAULT)
    assert finished.code in (1, -signal.SIGINT), finished.err
    assert finished.err.rstrip().endswith("KeyboardInterrupt")
    assert arrived(sink) == 1000


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_applications_handler_is_called(sink: Sink, tmp_path: Path, place: str) -> None:
    """Whether it is there before bootstrap or comes later."""
    finished = stopped(signal.SIGINT, sink, tmp_path, **{place: HANDLER})
    assert (finished.code, finished.out) == (3, "mine\n"), finished.err
    assert arrived(sink) == 1000
