"""One server of the stack as a child process: its log file, its readiness, its end."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from otelkit.errors import OtelkitError
from otelkit.stack.fetch import FetchError, fetch

PROBE_TIMEOUT_S = 1.0
TAIL_LINES = 15
TAIL_BYTES = 64 * 1024


class StackError(OtelkitError, RuntimeError):
    """The stack cannot be started, or a server of it has ended; the message names the server and says why."""


class Server:
    """A server that is started, asked whether it is ready, stopped or killed, and may be started again.

    Everything it prints is appended to `log_path`. It runs in a session of its own: the terminal's Ctrl-C reaches
    the parent only, which then ends its servers in the order that loses nothing.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        ready_url: str,
        log_path: Path,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.ready_url = ready_url
        self.log_path = log_path
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process of the latest start, None before the first."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; it is not ready yet.

        Raises:
            StackError: it runs already, or the program cannot be executed.
        """
        if self.running:
            raise StackError(f"{self.name} runs already, as process {self.pid}")
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environ,
                    cwd=self.log_path.parent,
                    start_new_session=True,
                )
            except OSError as error:
                raise StackError(f"{self.name} cannot be executed: {error}") from error

    def ready(self) -> bool:
        """Ask once whether the server is ready.

        Raises:
            StackError: its process has ended; the message has exit code and the end of the log.
        """
        self.check()
        try:
            status, _ = fetch(self.ready_url, timeout_s=PROBE_TIMEOUT_S)
        except FetchError:
            return False
        return status == 200

    def check(self) -> None:
        """Do nothing as long as the process runs.

        Raises:
            StackError: it has ended, or was never started.
        """
        if self._process is None:
            raise StackError(f"{self.name} was not started")
        code = self._process.poll()
        if code is not None:
            raise StackError(f"{self.name} {_how_ended(code)}; the end of {self.log_path}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines that the latest start has printed."""
        with self.log_path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(self._log_start, log.tell() - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:]) or "    (nothing)"

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM); no-op if it has ended."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the process as a crash would (SIGKILL) and wait for it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, *, timeout_s: float) -> bool:
        """Wait for the end; True if the process had ended within `timeout_s` by itself, else it is killed."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout=max(timeout_s, 0.0))
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True


def _how_ended(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    return f"was ended by {signal.Signals(-code).name}"
