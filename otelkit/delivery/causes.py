"""What may have ended a process from outside, as far as the next one can tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from otelkit.delivery.ring import About

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_GROUPS = Path("/proc/self/cgroup")
_GROUPS_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Cause:
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
    """How many processes of this control group (v2) were killed because it was out of memory; 0 where that is not
    known.
    """
    try:
        path = next(line[3:] for line in _GROUPS.read_text().splitlines() if line.startswith("0::"))
        events = (_GROUPS_ROOT / path.lstrip("/") / "memory.events").read_text()
        return next(int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError):
        return 0


def cause_of(about: About, traceback: str) -> Cause:
    """How the process ended whose ring this is; `traceback` is what the interpreter wrote as it crashed."""
    if traceback:
        return Cause("crash", traceback.splitlines()[0])
    if about.boot_id != boot_id():
        return Cause("host_restart", "the host was started anew")
    if oom_kills() > about.oom_kills:
        return Cause("out_of_memory", "killed: its control group was out of memory")
    return Cause("killed", "killed (SIGKILL), or ended by os._exit")
