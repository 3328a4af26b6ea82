"""A RabbitMQ node of a test's own, on loopback and free ports, with its management API."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.server import free_port, get

# The package's program on PATH is a wrapper that gives up root; the node itself runs as anyone.
_PROGRAMS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
READY_S = 90.0
"""A node starts in some ten seconds on an idle machine."""


def rabbitmq_program() -> str | None:
    """The server's program, None where it is not installed."""
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


class RabbitMQ:
    """A node that was started; it may not answer yet."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, management_port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        self.management = f"http://guest:guest@127.0.0.1:{management_port}"
        self._alive = f"http://127.0.0.1:{management_port}/"

    def wait(self) -> RabbitMQ:
        """Returns when it answers."""
        end = time.monotonic() + READY_S
        while True:
            assert self._process.poll() is None, self._log.read_text(errors="replace")
            assert time.monotonic() < end, self._log.read_text(errors="replace")
            with suppress(OSError):
                get(self._alive)
                # The management plugin is the last one to start.
                if "completed with" in self._log.read_text(errors="replace"):
                    return self
            time.sleep(0.1)


@contextmanager
def rabbitmq_server() -> Iterator[RabbitMQ]:
    """Starts a node, and ends it with its port mapper (epmd), both its own."""
    program = rabbitmq_program()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="rabbitmq-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        port, distribution, mapper, management = (free_port() for _ in range(4))
        (folder / "enabled_plugins").write_text("[rabbitmq_management].")
        (folder / "rabbitmq.conf").write_text(
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\ncollect_statistics_interval = 500\n"
        )
        environ = {
            **os.environ,
            "HOME": name,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper),
            "RABBITMQ_NODENAME": f"test{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        log = folder / "out"
        with log.open("wb") as output:
            process = subprocess.Popen([program], env=environ, stdout=output, stderr=output, start_new_session=True)
        try:
            yield RabbitMQ(process, port, management, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _end_mapper(environ)


def _end_mapper(environ: dict[str, str]) -> None:
    """Ends the port mapper, which lets go of a dead node within moments; it listens on a port of this node's alone."""
    epmd = shutil.which("epmd")
    end = time.monotonic() + 5.0
    while epmd is not None and time.monotonic() < end:
        told = subprocess.run([epmd, "-kill"], env=environ, capture_output=True, check=False, timeout=5)
        if b"not allowed" not in told.stdout + told.stderr:
            return
        time.sleep(0.1)
