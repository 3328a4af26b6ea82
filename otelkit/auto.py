"""Start from the environment alone: what `otelkit run`, `otelkit auto enable` and OpenTelemetry's own launcher call.

A start only arranges things: libraries are instrumented when the application imports them, and no thread, socket or
file exists before its first record. A start that fails leaves the application as it would have been.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

SWITCH = "OTELKIT_AUTO"

# Python programs that run beside or inside of an application and are none themselves.
_HELPER_MODULES = ("pip", "ensurepip", "venv", "virtualenv", "uv", "build", "compileall", "ruff", "mypy", "site")
_HELPER_COMMANDS = frozenset(
    ("pip", "pip3", "otelkit", "opentelemetry-instrument", "ruff", "mypy", "nox", "virtualenv")
)
_HELPER_CODE = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "billiard.heap")


def is_helper(argv: Sequence[str]) -> bool:
    """Whether a command line (`sys.orig_argv`) is that of a tool or of multiprocessing's own processes."""
    arguments = list(argv[1:])
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option == "-c":
            return bool(arguments) and any(name in arguments[0] for name in _HELPER_CODE)
        if option == "-m":
            return bool(arguments) and arguments[0].partition(".")[0] in _HELPER_MODULES
        if option in ("-W", "-X") and arguments:
            arguments.pop(0)
    return bool(arguments) and os.path.basename(arguments[0]) in _HELPER_COMMANDS


def start() -> None:
    """Starts telemetry from the environment unless this is a helper process; never raises."""
    if is_helper(sys.orig_argv):
        return
    try:
        from otelkit.wiring import start_automatically

        start_automatically()
    except Exception:  # noqa: BLE001 - telemetry never keeps an application from starting
        sys.stderr.write(f"otelkit could not start; the application runs without it.\n{traceback.format_exc()}")
