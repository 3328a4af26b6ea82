"""A real otelcol between the services of a soak and its collector, which is then the store behind it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.processes import Child, clean_environment
from otelkit.stack.native import HOST, Ports, config_dir, find_binaries
from otelkit.stack.server import Server

_READY_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_QUIET_S = 5.0
_DRAINED_TIMEOUT_S = 120.0
_POLL_INTERVAL_S = 0.05
_FOR_ALL = "otlp_http/loki"  # the one of the bundled exporters over HTTP that takes every signal: to the store


class Otelcol:
    """The otelcol that is found, with the bundled configuration: its queues are on disk. It takes the place of the
    store, whose words it knows: `refused` kills it (SIGKILL), and every other failure is the store's.

    Raises RuntimeError where no otelcol is found.
    """

    def __init__(self, store: Child, folder: Path) -> None:
        program = find_binaries().get("otelcol")
        if program is None:
            raise RuntimeError("no otelcol in OTELKIT_STACK_BIN, nor on PATH")
        ports = Ports.free()
        self.first = {"port": ports.otlp_http}
        self._store = store
        where = f"http://{HOST}:{store.first['port']}"
        pipelines = "".join(f"\n    {signal}: {{exporters: [{_FOR_ALL}]}}" for signal in ("traces", "metrics", "logs"))
        self._server = Server(
            "otelcol",
            [
                str(program),
                f"--config={config_dir() / 'config' / 'collector.yaml'}",
                f"--config=yaml:service:\n  pipelines:{pipelines}",
            ],
            environ={
                **clean_environment(),
                **ports.environment(),
                "STACK_COLLECTOR_DATA_DIR": str(folder / "otelcol"),
                "STACK_LOKI_URL": where,
                "STACK_PROMETHEUS_URL": where,
            },
            ready_url=f"http://{HOST}:{ports.collector_health}/",
            log_path=folder / "otelcol.log",
        )
        self._start()

    def ask(self, **words: object) -> Mapping[str, Any]:
        """Changes the mode, or answers as the store does: when nothing of what waited on disk comes any more."""
        if words.get("mode") == "refused":
            self.kill()
            return {}
        if words.get("mode") == "up" and not self._server.running:
            self._start()
        return self._store.ask(**words) if "mode" in words else self._last_answer(**words)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._server.kill()

    def _start(self) -> None:
        self._server.start()
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not self._server.ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"otelcol is not ready in {_READY_TIMEOUT_S:g} s\n{self._server.log_tail()}")
            time.sleep(_POLL_INTERVAL_S)

    def _last_answer(self, **words: object) -> Mapping[str, Any]:
        # A new start tries at once what waits: else that may be half a minute from now.
        self._server.terminate()
        self._server.wait(timeout_s=_END_TIMEOUT_S)
        self._start()
        deadline = time.monotonic() + _DRAINED_TIMEOUT_S
        answer, before = self._store.ask(**words), None
        while answer != before and time.monotonic() < deadline:
            time.sleep(_QUIET_S)
            answer, before = self._store.ask(**words), answer
        return answer
