"""Python snippets in processes of their own: OpenTelemetry's globals are set once a process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import clean_environment


@dataclass(frozen=True)
class Finished:
    """How a snippet ended; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str


def run_python(
    source: str,
    *,
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    deadline_s: float = 30.0,
    check: bool = True,
) -> Finished:
    """Runs a snippet in a fresh interpreter, and kills it with all that it started when the deadline has passed.

    Its ledger goes under `cwd`, it has no OTEL_* variables but those in `environ`, and its Python is this one. With
    `check` it must end with code 0.
    """
    process = start_python(source, cwd=cwd, environ=environ)
    try:
        out, err = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"the snippet did not end in {deadline_s:g} s\n{out}\n{err}") from None
    finally:
        kill_session(process)
    if check and process.returncode != 0:
        raise AssertionError(f"the snippet ended with {process.returncode}\n{out}\n{err}")
    return Finished(process.returncode, out, err)


def start_python(source: str, *, cwd: Path, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts a snippet; whoever starts it ends it with `kill_session`."""
    settings = {
        "OTELKIT_STATE_DIR": str(cwd / "state"),
        "OTELKIT_RUNTIME_METRICS": "false",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **(environ or {}),
    }
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        cwd=cwd,
        env=clean_environment(**settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill_session(process: subprocess.Popen[str]) -> None:
    """Kills a process of `start_python` with its children; what it printed and nobody read is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
