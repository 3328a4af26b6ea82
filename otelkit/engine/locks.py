"""The locks of the files that the processes of a group share: flock's, held for moments."""

from __future__ import annotations

import fcntl
import time

_PATIENCE_S = 5.0  # who holds it reads and writes up to 8 MiB, on a machine that may be busy


def lock(fd: int) -> None:
    """Waits for a lock that others hold for moments; raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("the lock of the metrics' group was held too long") from None
            time.sleep(0.001)
