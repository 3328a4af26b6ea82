"""otelkit as a distribution for OpenTelemetry's own launcher: `opentelemetry-instrument uvicorn app:app`.

With opentelemetry-distro installed too, whichever is found first is used unless OTEL_PYTHON_DISTRO and
OTEL_PYTHON_CONFIGURATOR say `otelkit`. Needs opentelemetry-instrumentation, which the launcher comes with.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import EntryPoint

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from otelkit import auto

logger = logging.getLogger("otelkit")


class OtelkitDistro(BaseDistro):  # type: ignore[misc]
    """Leaves configuration and instrumentation to otelkit: its registry instruments at import, contrib's included."""

    chosen = False

    def _configure(self, **kwargs: object) -> None:
        OtelkitDistro.chosen = True
        os.environ.setdefault("OTEL_PYTHON_CONFIGURATOR", "otelkit")

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: object) -> None:
        """Does nothing: the registry has decided already."""


class OtelkitConfigurator:
    """Starts otelkit where the launcher would configure the SDK."""

    def configure(self, **kwargs: object) -> None:
        """Starts from the environment, which another distribution may have filled with defaults of its own."""
        auto.start()
        if not OtelkitDistro.chosen:
            _warn()


def warn_about_other_distros() -> None:
    """Says so when another distribution came first, and how to change that."""
    from otelkit import status

    if status()["state"] == "not started" and not auto.is_helper(sys.orig_argv):
        _warn()


def _warn() -> None:
    logger.warning(
        "otelkit is installed, but another OpenTelemetry distribution was loaded first;"
        " set OTEL_PYTHON_DISTRO=otelkit OTEL_PYTHON_CONFIGURATOR=otelkit to use otelkit"
    )
