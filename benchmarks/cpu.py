"""What a process has used, read from outside: CPU time and resident memory, those of its helper processes included."""

from __future__ import annotations

import time

import psutil

_CPUCLOCK_SCHED = 2


def used_s(pid: int) -> float:
    """CPU seconds of a process since its start: all its threads, its children and theirs, ended ones included.

    Living processes to the nanosecond, ended children to the kernel's tick (10 ms). Raises psutil.NoSuchProcess.
    """
    process = psutil.Process(pid)
    times = process.cpu_times()
    ended = times.children_user + times.children_system
    return _own_s(pid) + ended + sum(used_s(child.pid) for child in process.children())


def _own_s(pid: int) -> float:
    # What clock_getcpuclockid(3) computes: /proc/<pid>/stat knows ticks only, a twentieth of a short run.
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and of its children and theirs. Raises psutil.NoSuchProcess."""
    process = psutil.Process(pid)
    own: int = process.memory_info().rss
    return own + sum(resident_bytes(child.pid) for child in process.children())
