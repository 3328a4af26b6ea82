"""The benchmark's other processes: they say where they listen, and end with their standard input."""

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


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without any setting of telemetry or Python, and these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHON"))}
    return {**kept, **more}


class Child:
    """A process that answers a line with a line of JSON."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self.port = int(self.hear()["port"])

    def hear(self) -> dict[str, Any]:
        """The next line. Raises RuntimeError with what the process has logged when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} has ended:\n{self._log.read_text(errors='replace')[-4000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self) -> dict[str, Any]:
        """Sends an empty line and hears the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.hear()


@contextmanager
def child(python: str | Path, *words: str, environ: Mapping[str, str], log: Path) -> Iterator[Child]:
    """Runs `python -m words` from the checkout, standard error in `log`; ends it with the block."""
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


@contextmanager
def sink(folder: Path) -> Iterator[int]:
    """Runs the receiver; its port."""
    with child(sys.executable, "benchmarks.sink", environ=clean_environment(), log=folder / "sink.log") as process:
        yield process.port


def received(port: int) -> dict[str, dict[str, int]]:
    """What the sink got since the last question: kind of record, name, how many."""
    with urlopen(f"http://127.0.0.1:{port}/received", timeout=60) as answer:
        found: dict[str, dict[str, int]] = json.load(answer)
        return found
