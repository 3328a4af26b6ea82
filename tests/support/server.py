"""Real programs as subprocesses that end with the test that started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path

BIN = Path(sys.executable).parent
FAST = {
    "OTEL_BSP_SCHEDULE_DELAY": "200",
    "OTEL_BLRP_SCHEDULE_DELAY": "200",
    "OTEL_METRIC_EXPORT_INTERVAL": "400",
}
"""Short delays, so that tests see what was recorded soon."""
PATIENT = {"OTELKIT_SHUTDOWN_TIMEOUT_S": "10"}
"""The machines that run this are shared and slow at times; that an end keeps its deadline is a test of its own."""
AT_THE_END = {
    **PATIENT,
    "OTEL_BSP_SCHEDULE_DELAY": "60000",
    "OTEL_BLRP_SCHEDULE_DELAY": "60000",
    "OTEL_METRIC_EXPORT_INTERVAL": "60000",
}
"""Long delays: what arrives was sent at the process's end."""


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without any telemetry settings, with this Python's programs first on PATH.

    The engine that the tests are run with (`OTELKIT_ENGINE=sdk make test`) stays.
    """
    away = ("OTEL_", "OTELKIT_", "PYTHON")
    kept = {key: value for key, value in os.environ.items() if key == "OTELKIT_ENGINE" or not key.startswith(away)}
    kept["PATH"] = f"{BIN}{os.pathsep}{kept.get('PATH', '')}"
    kept["PYTHONWARNINGS"] = "ignore"
    return {**kept, **more}


@contextmanager
def running(
    command: Sequence[str], *, cwd: Path, environ: Mapping[str, str], log: Path, stop_timeout_s: float = 15.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in a session of its own; SIGTERM at the end, SIGKILL to the session where that is ignored."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), cwd=cwd, env=dict(environ), stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(stop_timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"{command} did not end in {stop_timeout_s:g} s\n{log.read_text()}") from None


def get(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, Message, bytes]:
    """GETs a URL: status, headers, body; also of an error status."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path, deadline_s: float = 20.0) -> None:
    """Waits until something answers at a URL."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}\n{log.read_text()}")
        try:
            get(url)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{url} did not answer in {deadline_s:g} s\n{log.read_text()}")


def wait_until_said(log: Path, what: str, times: int = 1, deadline_s: float = 20.0) -> None:
    """Waits until something stands in a server's log so often."""
    end = time.monotonic() + deadline_s
    while (said := log.read_text()).count(what) < times:
        assert time.monotonic() < end, said
        time.sleep(0.02)


def wait_until_no_worker_starts(log: Path, workers: int, deadline_s: float = 20.0) -> None:
    """Waits until gunicorn has as many workers as it shall have, and all are up.

    A worker that is starting when SIGTERM comes gunicorn does not end.
    """
    end = time.monotonic() + deadline_s
    while True:
        said = log.read_text()
        booted, up, ended = map(said.count, ("Booting worker", "Application startup complete", "Worker exiting"))
        leaving = said.count("Maximum request limit")
        if booted == up and booted - ended == workers and leaving == ended:
            return
        assert time.monotonic() < end, said
        time.sleep(0.02)
