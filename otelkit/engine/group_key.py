"""Which processes report their metrics as one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from otelkit.runtime import fork, proc


class GroupKey:
    """Which group a process belongs to; a forked child belongs to its parent's.

    `anchor` is the process that all of the group descend from; `said` is what they have in common. `opening` counts
    how often this process has started telemetry anew, which begins its sums anew.
    """

    def __init__(self, anchor: int, said: object, opening: int = 0) -> None:
        self.anchor = anchor
        self._began = started(anchor)
        self._said = said
        self._opening = opening

    @property
    def folder(self) -> str:
        """The group's name under the folder of all groups."""
        # When it is asked for, not at every start of a program: hashlib loads OpenSSL. Not a cached_property either,
        # whose lock a fork may find held.
        with fork.importing:
            import hashlib
            import json

        text = json.dumps([self._said, _machine()], sort_keys=True, default=str)
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
        again = f"-{self._opening}" if self._opening else ""
        return f"{namespace()}-{self.anchor}-{self._began}-{digest}{again}"


def group_key(attributes: Mapping[str, object], explicit_id: str | None, destination: str, opening: int) -> GroupKey:
    """The group of a process that nothing was inherited by: those with the same parent that say the same of
    themselves and send to the same place.

    `explicit_id` is the `service.instance.id` that was set for them, if one was.
    """
    said = {key: value for key, value in attributes.items() if key not in ("process.pid", "service.instance.id")}
    return GroupKey(os.getppid(), (said, explicit_id, destination), opening)


def _machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


def namespace() -> int:
    """Where process ids mean what they mean here: containers may share a folder. 0 where there is no telling."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def started(pid: int) -> int:
    """When a process started, in a unit of the platform's; 0 where there is no such process or no telling."""
    try:
        return proc.stat(pid, proc.STARTTIME)
    except OSError:
        return 0
