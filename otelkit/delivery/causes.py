"""What may have ended a process from outside, as far as the next one can tell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from otelkit.delivery.ring import About

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_GROUPS = Path("/proc/self/cgroup")
_GROUPS_ROOT = Path("/sys/fs/cgroup")


class Cause(NamedTuple):
    """How a process ended: in a word, and in a sentence's words."""

    name: str
    told: str


def boot_id() -> str:
    """Which start of the host this is; empty where the platform does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def oom_kills() -> int:
    """How many processes of this control group were killed because it was out of memory; 0 where that is not known."""
    for counts in _oom_counts():
        with contextlib.suppress(OSError, ValueError):
            for line in counts.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _oom_counts() -> Iterator[Path]:
    """Where the kernel may count them. A container without a namespace for its groups has the host's path, and at the
    root what is its own.
    """
    try:
        groups = [line.split(":", 2) for line in _GROUPS.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in groups:
        for within in (path.lstrip("/"), ""):
            if not controllers:  # v2
                yield _GROUPS_ROOT / within / "memory.events"
            elif "memory" in controllers.split(","):  # v1
                yield _GROUPS_ROOT / "memory" / within / "memory.oom_control"


def cause_of(about: About, traceback: str) -> Cause:
    """How the process ended whose ring this is; `traceback` is what the interpreter wrote as it crashed."""
    if traceback:
        return Cause("crash", traceback.splitlines()[0])
    if about.boot_id != boot_id():
        return Cause("host_restart", "the host was started anew")
    if oom_kills() > about.oom_kills:
        return Cause("out_of_memory", "killed: its control group was out of memory")
    return Cause("killed", "killed (SIGKILL), or ended by os._exit")
