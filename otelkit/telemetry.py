"""The handle that `bootstrap` returns."""

from __future__ import annotations

from typing import Any

from otelkit.delivery.report import FlushReport
from otelkit.running import Running


class Telemetry:
    """A started telemetry: what `bootstrap` returns. Thread-safe."""

    __slots__ = ("_running",)

    def __init__(self, running: Running) -> None:
        self._running = running

    def __repr__(self) -> str:
        return f"<otelkit.Telemetry of {self.service!r}>"

    @property
    def service(self) -> str:
        """The service's name, wherever it came from."""
        return self._running.service

    def flush(self, timeout_s: float = 5.0) -> FlushReport:
        """Sends everything accepted before the call and waits for the acknowledgements, for `timeout_s` at most."""
        return self._running.flush(timeout_s)

    def shutdown(self, timeout_s: float | None = None) -> FlushReport:
        """Sends what is there within `timeout_s` (default: OTELKIT_SHUTDOWN_TIMEOUT_S), then ends; records that come
        later are counted and dropped. `bootstrap` may be called again.
        """
        return self._running.shutdown(timeout_s)

    def status(self) -> dict[str, Any]:
        """Everything that is known about this process's telemetry, as plain data, as `otelkit.status`."""
        return self._running.status()
