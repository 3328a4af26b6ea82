"""`make demo` as a user starts it, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from examples.shop.processes import ROOT
from tests.support.server import clean_environment


class Demo:
    """`examples.shop.demo` in a process of its own, its output as it comes."""

    def __init__(self, folder: Path, *arguments: str, stack_bin: str, **environ: str) -> None:
        settings = {"OTELKIT_STACK_BIN": stack_bin, "PYTHONUNBUFFERED": "1", "COLUMNS": "160", **environ}
        command = [sys.executable, "-m", "examples.shop.demo", "--data", str(folder), *arguments]
        self._log = folder.with_suffix(".log")
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=clean_environment(**settings),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *error: object) -> None:
        """It must have ended: with SIGTERM it still ends what it has started."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def viewer(self) -> str:
        """The viewer's address, which must be printed within 20 s."""
        self.wait_for("(open this in a browser)", timeout_s=20.0)
        return str(re.findall(r"^  (\S+)  \(open this in a browser\)$", self.output, re.MULTILINE)[0])

    @property
    def shop(self) -> str:
        """The address of the shop's page."""
        self.wait_for("(its page:")
        return str(re.findall(r"^  (\S+)  \(its page:", self.output, re.MULTILINE)[0])

    def wait_for(self, text: str, *, timeout_s: float = 60.0) -> None:
        """Waits until it has printed a text."""
        end = time.monotonic() + timeout_s
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.05)

    def ends(self, *, timeout_s: float = 60.0) -> None:
        """Waits for its end: in order, without a word of an error, with nothing left."""
        code = self.process.wait(timeout_s)
        assert code == 0, self.output
        assert "Traceback" not in self.output
        endings = re.findall(r"^  (.*) ended$", self.output, re.MULTILINE)
        assert [each for each in endings if each in ("the load", "the shop", "Redis")] == [
            "the load",
            "the shop",
            "Redis",
        ]
        assert left_behind(self._log.with_suffix("")) == []


def left_behind(folder: Path) -> list[str]:
    """The command lines of the processes of the shop whose database is in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(folder) in process.environ().get("SHOP_DATABASE", ""):
                found.append(" ".join(process.cmdline()))
    return found
