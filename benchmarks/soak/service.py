"""One service of a soak, seen from outside: its process, started anew when it has ended, and what each one left."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals

from benchmarks.processes import Child, child
from benchmarks.soak.balance import Ended
from benchmarks.soak.program import made
from otelkit.delivery.ledger import LedgerPage, read_page

_END_TIMEOUT_S = 120.0
_POLL_INTERVAL_S = 0.02


@dataclass(frozen=True)
class Start:
    """How a service's processes are started: the Python, the peer, the variables, and where their files go."""

    python: Path
    peer: str
    rate: float
    environ: Mapping[str, str]
    folder: Path
    state: Path


class Service:
    """A service of a name; `ended` holds what its processes have left. `end` ends the last one.

    The ledger's page is opened while its process lives: that removes the file when it ends in order.
    """

    def __init__(self, start: Start, name: str) -> None:
        self.name = name
        self.log = start.folder / f"{name}.log"
        self.ended: list[Ended] = []
        self._start = start
        self._running = ExitStack()
        self._signalled: tuple[int, float] | None = None
        self._page: int | None = None
        self.process = self._started()

    def _started(self) -> Child:
        start = self._start
        words = ("benchmarks.soak.program", start.peer, str(start.rate), str(self._counts))
        environ = {**start.environ, "OTEL_SERVICE_NAME": self.name}
        process = self._running.enter_context(child(start.python, *words, environ=environ, log=self.log))
        for page in start.state.glob(f"{process.pid}-*.ledger"):
            self._page = os.open(page, os.O_RDONLY)
            self._running.callback(os.close, self._page)
        return process

    @property
    def _counts(self) -> Path:
        return self._start.folder / f"{self.name}-{len(self.ended)}.counts"

    def stop(self, signal: str) -> None:
        """Sends a signal, unless one has been sent."""
        if self._signalled is None and not self.process.has_ended:
            number = Signals[signal]
            self._signalled = (number, time.monotonic())
            self.process.signal(number)

    def tend(self) -> None:
        """Starts the next process where the last one has ended. Raises RuntimeError where nobody had ended it, with the
        end of what it logged.
        """
        if self.process.has_ended:
            if self._signalled is None:
                self.process.hear()
            self._note_end()
            self.process = self._started()

    def _note_end(self) -> None:
        number, since = self._signalled or (0, time.monotonic())
        self.ended.append(
            Ended(self.process.pid, number == SIGKILL, time.monotonic() - since, made(self._counts), self._last_page())
        )
        self._running.close()
        self._signalled = self._page = None

    def _last_page(self) -> LedgerPage | None:
        return None if self._page is None else read_page(Path(f"/proc/self/fd/{self._page}"))

    def waiting(self) -> int:
        """How many records its process has on disk, to be sent."""
        page = self._last_page()
        return 0 if page is None else sum(account.spooled for account in page.accounts.values())

    def end(self) -> None:
        """Ends the process, in order."""
        self.stop("SIGTERM")
        deadline = time.monotonic() + _END_TIMEOUT_S
        while not self.process.has_ended and time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL_S)
        self._note_end()

    def kill(self) -> None:
        """Ends the process, where the soak has failed."""
        with suppress(ProcessLookupError):
            self.process.signal(SIGKILL)
        self._running.close()
