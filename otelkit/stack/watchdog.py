"""Ends servers whose parent died without ending them, SIGKILL included.

A process of its own that reads a pipe from the parent. The parent tells it each server's pid; when the pipe ends
without the word `done`, the parent is dead and the servers are ended. It holds them by pidfd, so a pid that was given
to another process since is never signalled. Linux only; elsewhere a killed parent leaves its servers behind.

A process that the parent forked (not executed) holds the pipe open too: the servers then live as long as that one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

GRACE_S = 5.0


class Watchdog:
    """The parent's side; close it after the servers have ended."""

    def __init__(self) -> None:
        # -I -S: this file needs nothing but the standard library, and must not be slowed by site-packages.
        # Its own session: the terminal's Ctrl-C is for the parent, which then ends the servers in order.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @staticmethod
    def supported() -> bool:
        """Whether this platform has pidfds."""
        return sys.platform == "linux" and hasattr(os, "pidfd_open")

    @property
    def pid(self) -> int:
        return self._process.pid

    def guard(self, pid: int) -> None:
        """End the process `pid`, a child of ours that has not been waited for, when this process dies."""
        self._write(f"{pid}\n")

    def close(self) -> None:
        """Let the watchdog go; it ends nothing."""
        self._write("done\n")
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        # A watchdog that somebody ended is no reason to fail: the servers still have their parent.
        with contextlib.suppress(BrokenPipeError):
            # Unbuffered: what is still in a buffer when the parent is killed was never said.
            os.write(self._process.stdin.fileno(), line.encode())


def _main() -> None:
    pidfds: list[int] = []
    for line in sys.stdin:
        word = line.strip()
        if word == "done":
            return
        try:
            pidfds.append(os.pidfd_open(int(word)))
        except ProcessLookupError:
            continue
    _signal(pidfds, signal.SIGTERM)
    _wait(pidfds, timeout_s=GRACE_S)
    _signal(pidfds, signal.SIGKILL)


def _signal(pidfds: list[int], number: signal.Signals) -> None:
    for pidfd in pidfds:
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            continue


def _wait(pidfds: list[int], *, timeout_s: float) -> None:
    poller = select.poll()
    for pidfd in pidfds:
        poller.register(pidfd, select.POLLIN)
    remaining = len(pidfds)
    deadline = time.monotonic() + timeout_s
    while remaining and (left_s := deadline - time.monotonic()) > 0:
        for pidfd, _ in poller.poll(left_s * 1000):
            poller.unregister(pidfd)
            remaining -= 1


if __name__ == "__main__":
    _main()
