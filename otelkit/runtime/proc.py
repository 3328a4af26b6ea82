"""What Linux tells of a process in its `/proc/PID/stat` (proc_pid_stat(5))."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

NUM_THREADS = 17
STARTTIME = 19
"""In ticks since the machine was started, which are `SC_CLK_TCK` a second."""


def stat(process: int | Literal["self"], field: int) -> int:
    """A field by its place behind the process's name.

    Raises OSError where there is no such process, or no /proc.
    """
    # The name, in parentheses, may hold anything.
    return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[field])
