"""Where otelkit keeps what must outlive a process: the ledgers' pages and the metrics that processes share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def state_directory(setting: str | None) -> Path:
    """The folder that OTELKIT_STATE_DIR names; else the platform's for state; else this user's under the temporary
    directory.

    The last one serves services that run without a home (a system user in a container).
    """
    if setting:
        return Path(setting).expanduser()
    base = os.environ.get("XDG_STATE_HOME")
    if base and Path(base).is_absolute():
        return Path(base) / "otelkit"
    home = os.path.expanduser("~")
    if home not in ("~", "/", "/nonexistent") and os.access(home, os.W_OK):
        return Path(home) / ".local" / "state" / "otelkit"
    return Path(tempfile.gettempdir()) / f"otelkit-{os.geteuid()}"
