"""The shop as it runs in production: uvicorn and a Celery worker, each a real process with a log file of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
"""The folder from which `examples.shop` is imported; the processes run in it."""

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_POLL_INTERVAL_S = 0.05
_TAIL_LINES = 20
# Between choosing a free port and uvicorn listening on it, another process may take it.
_PORT_ATTEMPTS = 3


class ShopError(RuntimeError):
    """A process of the shop ended, or was not ready in time; the message has the end of its log."""


class Process:
    """A running program; what it prints is appended to `log_path`.

    It has a session of its own: the terminal's Ctrl-C is for the parent, which ends its processes in order.
    """

    def __init__(self, name: str, command: Sequence[str], *, environ: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal's number where one ended it; None while it runs."""
        return self._process.poll()

    def log(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text(errors="replace")

    def check(self) -> None:
        """Does nothing while the process runs.

        Raises:
            ShopError: it has ended.
        """
        code = self.returncode
        if code is not None:
            raise ShopError(f"{self.name} ended with exit code {code}; {self._tail()}")

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Waits until `ready` says so.

        Raises:
            ShopError: the process ended, or `timeout_s` passed.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise ShopError(f"{self.name} did not get ready within {timeout_s:g} s; {self._tail()}")
            time.sleep(_POLL_INTERVAL_S)

    def stop(self) -> None:
        """Asks the process to end (SIGTERM) and waits; kills it with its children after `STOP_TIMEOUT_S`."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def _tail(self) -> str:
        lines = self.log().splitlines()[-_TAIL_LINES:]
        return f"the end of {self.log_path}:\n" + "\n".join(f"    {line}" for line in lines)


@dataclass(frozen=True)
class Shop:
    """The running shop: where it listens, and its two processes."""

    url: str
    web: Process
    worker: Process

    def check(self) -> None:
        """Does nothing while both processes run.

        Raises:
            ShopError: one has ended.
        """
        self.web.check()
        self.worker.check()


@contextmanager
def running_shop(
    folder: Path,
    *,
    redis_url: str,
    environ: Mapping[str, str] | None = None,
    bootstrap: bool = True,
    prefix: Sequence[str] = (),
    port: int | None = None,
    concurrency: int = 2,
) -> Iterator[Shop]:
    """Starts uvicorn and a prefork worker, and ends them, the web process first; database and logs are in `folder`.

    `environ` is added to this process's environment, whose OTEL_* variables are left out: who starts the shop says
    where its telemetry goes. With `bootstrap` the modules run that call `otelkit.bootstrap`, without it those that do
    not, with OTEL_SERVICE_NAME set to `shop` and `shop-worker`. `prefix` comes before both commands, as in
    `("otelkit", "run")`. `port` is uvicorn's, unless somebody listens there already: then, and by default, a free one.

    Raises:
        ShopError: one of the two ended, or was not ready in time.
    """
    shared = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        "PATH": path_with_tools(),
        **(environ or {}),
        "REDIS_URL": redis_url,
        "SHOP_DATABASE": str(folder / "shop.sqlite"),
    }
    web_module, worker_module = ("main", "worker") if bootstrap else ("app", "tasks")
    web_command = ["uvicorn", f"examples.shop.{web_module}:app", "--host", "127.0.0.1"]
    worker_command = [
        *("celery", "-A", f"examples.shop.{worker_module}", "worker"),
        *("--pool", "prefork", "--concurrency", str(concurrency), "--loglevel", "INFO"),
        # What workers tell each other: here is only one, and without it that one is ready a second sooner.
        *("--without-gossip", "--without-mingle"),
    ]

    def start(name: str, command: Sequence[str]) -> Process:
        named = shared if bootstrap else {**shared, "OTEL_SERVICE_NAME": name}
        log_path = folder / f"{name}.log"
        return running.enter_context(Process(name, [*prefix, *command], environ=named, log_path=log_path))

    with ExitStack() as running:
        worker = start("shop-worker", worker_command)
        for attempt in range(_PORT_ATTEMPTS):
            port = free_port() if attempt or port is None else port
            url = f"http://127.0.0.1:{port}"
            web = start("shop", [*web_command, "--port", str(port)])
            try:
                _wait_until_up(web, url)
                break
            except ShopError:
                web.stop()
                if "address already in use" not in web.log().lower() or attempt + 1 == _PORT_ATTEMPTS:
                    raise
                # The next one's log shall be its own: it is asked whether that one listens.
                web.log_path.unlink()
        worker.wait_until(lambda: " ready." in worker.log())
        yield Shop(url, web, worker)


def path_with_tools() -> str:
    """PATH with the commands that are installed beside this Python first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(web: Process, url: str) -> None:
    # Another shop may listen there and answer: only this one's log says that it got the port.
    web.wait_until(lambda: "Uvicorn running on " in web.log())
    web.wait_until(lambda: _is_up(f"{url}/health"))


def _is_up(url: str) -> bool:
    try:
        # A proxy of the environment is not for loopback.
        return httpx.get(url, trust_env=False, timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False
