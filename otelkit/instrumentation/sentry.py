"""Keeps what sentry-sdk sends from being telemetry: its requests would be spans of contrib's without a parent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelkit.signals.suppression import silence


def install() -> Callable[[], None]:
    """Wraps the one method by which Sentry's thread gets its work. Returns the undo."""
    from sentry_sdk.worker import BackgroundWorker

    submit = BackgroundWorker.submit

    def quiet_submit(self: BackgroundWorker, callback: Callable[[], Any]) -> bool:
        def quietly() -> Any:
            with silence():
                return callback()

        return submit(self, quietly)

    BackgroundWorker.submit = quiet_submit  # type: ignore[method-assign]

    def undo() -> None:
        BackgroundWorker.submit = submit  # type: ignore[method-assign]

    return undo
