"""Reads small local files, wherever the tests put them, without ever waiting for one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple


class Sources(NamedTuple):
    """Where the detectors read: the root of /proc, /sys and /etc, and a directory of the repository."""

    root: Path = Path("/")
    directory: Path = Path()


def read(path: Path, *, limit_bytes: int = 1 << 20) -> bytes:
    """The beginning of a regular file; empty where there is none, or none that may be read."""
    chunks: list[bytes] = []
    try:
        # Non-blocking, because opening a FIFO waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            while limit_bytes > 0 and (chunk := os.read(descriptor, limit_bytes)):
                chunks.append(chunk)
                limit_bytes -= len(chunk)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return b"".join(chunks)


def read_text(path: Path) -> str:
    """The beginning of a regular file as text, bytes that are no UTF-8 replaced."""
    return read(path).decode("utf-8", "replace")
