"""A machine that has no time: processes that compute beside a test's, as a busy host's other programs do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# In a session of its own each: the kernel shares processors out among sessions first.
_COMPUTES = "while True: pass"


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Has so many processes compute within the block."""
    started = [subprocess.Popen([sys.executable, "-c", _COMPUTES], start_new_session=True) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()
