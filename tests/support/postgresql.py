"""A real PostgreSQL of the tests' own: a cluster in a temporary folder, on a free port of loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.server import free_port

READY_TIMEOUT_S = 30.0
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "max_prepared_transactions": "10",
    "max_connections": "60",
    "shared_buffers": "16MB",
}


def program(name: str) -> str | None:
    """One of PostgreSQL's programs: on PATH, else where Debian puts those of the server."""
    there = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(there[-1]) if there else None)


@contextmanager
def postgresql_server() -> Iterator[str]:
    """`host:port` of a PostgreSQL that ends with the block; user and database are `postgres`, there is no password.

    It refuses to run as root: then it runs as the user `postgres`, else as `nobody`.
    """
    initdb, server = program("initdb"), program("postgres")
    assert initdb is not None
    assert server is not None
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = {"user": "postgres" if "postgres" in names else "nobody", "extra_groups": []}
    # Where the other user gets to: pytest's own folders are this user's alone.
    with tempfile.TemporaryDirectory(prefix="otelkit-postgresql-") as folder:
        if user:
            shutil.chown(folder, user["user"])
        data, log = Path(folder) / "data", Path(folder) / "log"
        command = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(command, check=True, timeout=120, cwd=folder, stdout=subprocess.DEVNULL, **user)
        port = free_port()
        options = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [server, "-D", str(data), "-p", str(port), *options], cwd=folder, stdout=output, stderr=output, **user
            )
        try:
            _wait_until_ready(process, data, log)
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(3)  # SIGQUIT: at once, without a checkpoint
            process.wait(READY_TIMEOUT_S)


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        # Its last line says `ready` when connections are taken; a client's attempt may reach another server's port.
        pid_file = data / "postmaster.pid"
        if pid_file.exists() and pid_file.read_text().rstrip().endswith("ready"):
            return
        time.sleep(0.02)
    raise AssertionError(f"PostgreSQL does not answer:\n{log.read_text(errors='replace')}")
