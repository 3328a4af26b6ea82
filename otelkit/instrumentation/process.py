"""What the operating system says of this process: /proc on Linux, psutil elsewhere.

psutil reads the same there, and its import is a part of every start (docs/decisions/0018-no-psutil-on-linux.md).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from otelkit.runtime import proc

if TYPE_CHECKING:
    import psutil

T = TypeVar("T")

_SELF = Path("/proc/self")


class ThisProcess(Protocol):
    """The process that asks, after a fork the child. Everything raises OSError where it cannot be read."""

    def resident_bytes(self) -> int:
        """Its memory that is in RAM."""
        ...

    def virtual_bytes(self) -> int:
        """Its address space."""
        ...

    def threads(self) -> int:
        """Its threads, Python's or not."""
        ...

    def descriptors(self) -> int:
        """Its open file descriptors."""
        ...

    def uptime_s(self) -> float:
        """How long it has lived."""
        ...


class ProcessOfProc:
    """From /proc."""

    def resident_bytes(self) -> int:
        return self._pages(1)

    def virtual_bytes(self) -> int:
        return self._pages(0)

    def _pages(self, field: int) -> int:
        return int((_SELF / "statm").read_bytes().split()[field]) * os.sysconf("SC_PAGE_SIZE")

    def threads(self) -> int:
        return proc.stat("self", proc.NUM_THREADS)

    def descriptors(self) -> int:
        return len(os.listdir(_SELF / "fd")) - 1  # the one that reads the directory

    def uptime_s(self) -> float:
        # The clock that starttime is of: it goes on while the machine sleeps, and nobody sets it.
        return time.clock_gettime(time.CLOCK_BOOTTIME) - proc.stat("self", proc.STARTTIME) / os.sysconf("SC_CLK_TCK")


class ProcessOfPsutil:
    """From psutil."""

    def __init__(self) -> None:
        self._known: psutil.Process | None = None

    def resident_bytes(self) -> int:
        return self._ask(lambda process: process.memory_info().rss)

    def virtual_bytes(self) -> int:
        return self._ask(lambda process: process.memory_info().vms)

    def threads(self) -> int:
        return self._ask(lambda process: process.num_threads())

    def descriptors(self) -> int:
        return self._ask(lambda process: process.num_fds())

    def uptime_s(self) -> float:
        return max(0.0, time.time() - self._ask(lambda process: process.create_time()))

    def _ask(self, question: Callable[[psutil.Process], T]) -> T:
        import psutil  # with the first reading

        try:
            if self._known is None or self._known.pid != os.getpid():
                self._known = psutil.Process()
            return question(self._known)
        except psutil.Error as error:
            raise OSError(str(error)) from error


def this_process(platform: str = sys.platform) -> ThisProcess:
    """As the platform tells it."""
    return ProcessOfProc() if platform == "linux" else ProcessOfPsutil()
