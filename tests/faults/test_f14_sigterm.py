"""Fault 14: SIGTERM while 1000 spans are queued. All arrive, and a handler that was there earlier is still called."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.faults.stopped import arrived, stopped
from tests.support.process import kill_session, start_python
from tests.support.sink import Answer, Sink

HANDLER = r"""
def handler(number, frame):
    os.write(1, b"mine\n")
    sys.exit(3)
signal.signal(signal.SIGTERM, handler)
"""


def test_nobody_handles_it(sink: Sink, tmp_path: Path) -> None:
    """The process ends by the signal, as it would without otelkit."""
    finished = stopped(signal.SIGTERM, sink, tmp_path)
    assert finished.code == -signal.SIGTERM, finished.err
    assert "Traceback" not in finished.err
    assert arrived(sink) == 1000


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_applications_handler_is_called(sink: Sink, tmp_path: Path, place: str) -> None:
    """Whether it is there before bootstrap or comes later; it alone decides how the process ends."""
    finished = stopped(signal.SIGTERM, sink, tmp_path, **{place: HANDLER})
    assert (finished.code, finished.out) == (3, "mine\n"), finished.err
    assert arrived(sink) == 1000


def test_a_handler_that_calls_the_earlier_one(sink: Sink, tmp_path: Path) -> None:
    """Ours, that it found in its place."""
    chained = r"""
earlier = signal.getsignal(signal.SIGTERM)
def handler(number, frame):
    os.write(1, b"mine\n")
    earlier(number, frame)
signal.signal(signal.SIGTERM, handler)
"""
    finished = stopped(signal.SIGTERM, sink, tmp_path, after=chained)
    assert (finished.code, finished.out) == (-signal.SIGTERM, "mine\n"), finished.err
    assert arrived(sink) == 1000


def test_an_ignored_one_stays_ignored(sink: Sink, tmp_path: Path) -> None:
    """The process goes on, and ends by another signal."""
    ignores = "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGUSR1, lambda *_: sys.exit(4))"
    process = "os.kill(os.getpid(), signal.SIGTERM)"
    finished = stopped(signal.SIGUSR1, sink, tmp_path, before=ignores, after=process)
    assert finished.code == 4, finished.err
    assert arrived(sink) == 1000


def test_in_the_middle_of_a_log_call_it_keeps_the_deadline(sink: Sink, tmp_path: Path) -> None:
    """The interrupted main thread holds the lock that otelkit's own last line needs: the process waits no longer than
    the setting says, and ends by the signal.
    """
    sink.answer = lambda path: Answer(after_s=60)
    source = f"""
        import logging, time, otelkit
        logging.basicConfig()
        otelkit.bootstrap("script", otlp_endpoint={sink.url!r}, shutdown_timeout_s=0.5)
        with otelkit.span("work"): pass
        with logging.getLogger().handlers[0].lock:
            print("ready", flush=True)
            while True:
                time.sleep(0.05)
    """
    process = start_python(source, cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM
        assert time.monotonic() - began < 3.0
    finally:
        kill_session(process)
