"""Describes the process, its Python, its host and its operating system."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from opentelemetry.util.types import AttributeValue

from otelkit.resource.files import read_text

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv6l": "arm32",
    "armv7l": "arm32",
    "armv8l": "arm32",
    "i386": "x86",
    "i686": "x86",
    "ppc": "ppc32",
    "ppc64le": "ppc64",
}
_SYSTEMS = {"sunos": "solaris", "dragonfly": "dragonflybsd", "hp-ux": "hpux"}
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")


def detect_process(root: Path) -> dict[str, AttributeValue]:
    """The `process.*` attributes. Of the command line only its first word: the arguments may hold secrets."""
    found: dict[str, AttributeValue] = {
        "process.pid": os.getpid(),
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": ".".join(map(str, sys.implementation.version[:3])),
        "process.runtime.description": " ".join(sys.version.split()),
    }
    if executable := _executable(root):
        found["process.executable.path"] = executable
        found["process.executable.name"] = os.path.basename(executable)
    if sys.orig_argv:
        found["process.command"] = sys.orig_argv[0]
    if owner := _owner(root):
        found["process.owner"] = owner
    return found


def detect_host(root: Path, *, containerized: bool) -> dict[str, AttributeValue]:
    """The `host.*` and `os.*` attributes; no `host.id` in a container, whose machine-id is the image's."""
    system = os.uname()
    kind = system.sysname.lower()
    found: dict[str, AttributeValue] = {
        "host.name": system.nodename,
        "host.arch": _ARCHITECTURES.get(system.machine, system.machine),
        "os.type": _SYSTEMS.get(kind, kind),
        "os.version": system.release,
    }
    if not containerized:
        for path in ("etc/machine-id", "var/lib/dbus/machine-id"):
            identifier = read_text(root / path).strip()
            if _MACHINE_ID.fullmatch(identifier):
                found["host.id"] = identifier
                break
    return found


def _executable(root: Path) -> str:
    try:
        path = os.readlink(root / "proc/self/exe")
    except OSError:
        return sys.executable or ""
    # What the kernel appends when an upgrade replaced the file.
    return path.removesuffix(" (deleted)")


def _owner(root: Path) -> str | None:
    # Not pwd.getpwuid: behind it may be a directory service on the network.
    user = str(os.geteuid())
    for line in read_text(root / "etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == user:
            return fields[0]
    return None
