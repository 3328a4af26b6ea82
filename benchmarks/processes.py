"""The benchmark's other processes: they say where they listen, answer lines, and end with their standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.environments import CHECKOUT

_END_TIMEOUT_S = 20.0
_NEW_LINE = "\n"
_TELEMETRY = ("OTEL", "PYTHON", "DD_", "SENTRY_", "ELASTIC_APM_", "LOGFIRE_")

Received = dict[str, dict[str, int]]
"""What a sink got: kind of record, name, how many."""


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without any setting of telemetry or Python, and these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_TELEMETRY)}
    return {**kept, **more}


class Child:
    """A process that answers a line with a line of JSON; `first` is what it says when it is ready."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid
        self.first = self.hear()

    def hear(self) -> dict[str, Any]:
        """The next line. Raises RuntimeError with the end of what the process has logged when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            logged = self._log.read_text(errors="replace").strip()
            raise RuntimeError(f"has ended: {logged.rpartition(_NEW_LINE)[2]}\n{logged[-4000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, **words: object) -> dict[str, Any]:
        """Says these words and hears the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        self._process.send_signal(number)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None


@contextmanager
def child(python: str | Path, *words: str, environ: Mapping[str, str], log: Path) -> Iterator[Child]:
    """Runs `python -m words` from the checkout, standard error in `log`; ends it with the block.

    Raises RuntimeError when it ends before it is ready.
    """
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [str(python), "-m", *words],
            cwd=CHECKOUT,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield Child(process, log)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class Sink:
    """The receiver of one peer."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def received(self) -> Received:
        """What it got since the last question."""
        with urlopen(f"{self.url}/received", timeout=120) as answer:
            found: Received = json.load(answer)
            return found


@contextmanager
def sink(folder: Path) -> Iterator[Sink]:
    """Runs a receiver, its log in this folder."""
    with child(sys.executable, "benchmarks.sink", environ=clean_environment(), log=folder / "sink.log") as process:
        yield Sink(int(process.first["port"]))
