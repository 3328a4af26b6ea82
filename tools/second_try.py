"""Runs pytest, and what failed once more, alone: for CI, whose machines are shared and noisy.

`python -m tools.second_try [ARGUMENT ...]`, with pytest's arguments. What passes at the second try is printed by name
and does not fail the run; what fails twice does. There is no second try of a crash (of a worker, or of pytest), of a
test that could not be collected, nor where so many failed that no noise explains it. The exit code is pytest's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

HEADING = "passed at the second try: a flaky test is a defect, mend it"
# More than these are no noise; their second try, one after the other, would only make CI late.
MOST = 20


class Outcomes:
    """What a run says of its tests, by their names as pytest takes them; written to `file` when it ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._passed: set[str] = set()
        self._failed: set[str] = set()
        self._broken = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._broken = self._broken or report.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(_name(report.nodeid))
            # What pytest-xdist reports of a test whose worker died: its phase is not known.
            self._broken = self._broken or report.when not in ("setup", "call", "teardown")
        elif report.when == "call" and report.passed:
            self._passed.add(_name(report.nodeid))

    def pytest_sessionfinish(self) -> None:
        passed = sorted(self._passed - self._failed)
        said = {"passed": passed, "failed": sorted(self._failed), "broken": self._broken}
        self._file.write_text(json.dumps(said), encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, help="file that says in JSON what passed and what failed")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--outcomes")
    if file is not None and not hasattr(config, "workerinput"):  # pytest-xdist's workers report to who started them
        config.pluginmanager.register(Outcomes(file))


def main(arguments: list[str]) -> int:
    """The exit code of pytest with these arguments, but for what passes when it is tried again."""
    code, first = _pytest(*arguments)
    failed = first["failed"]
    if code != pytest.ExitCode.TESTS_FAILED or first["broken"] or not 0 < len(failed) <= MOST:
        return code
    _say(f"{len(failed)} failed: once more, without other tests beside")
    # By their names and not with --last-failed: `--dist loadgroup` has put a group's name behind those it remembers,
    # which are then not found, and everything runs.
    as_many_examples = [each for each in arguments if each.startswith("--hypothesis-profile=")]
    code, second = _pytest("-q", *as_many_examples, *failed)
    passed = [name for name in failed if name in second["passed"]]
    if passed:
        _say(f"===== {HEADING} =====", *passed)
    # What is skipped at the second try has not passed.
    return code or (0 if len(passed) == len(failed) else int(pytest.ExitCode.TESTS_FAILED))


def _pytest(*arguments: str) -> tuple[int, dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="otelkit-tries-") as folder:
        file = Path(folder, "outcomes.json")
        ours = ("-p", "tools.second_try", "--outcomes", str(file))
        code = subprocess.run([sys.executable, "-m", "pytest", *ours, *arguments]).returncode
        if not file.exists():  # it was killed
            return (code if code > 0 else 128 - code), {"passed": [], "failed": [], "broken": True}
        return code, json.loads(file.read_text(encoding="utf-8"))


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(("", *lines, "", "")))
    sys.stdout.flush()  # before what pytest writes next


def _name(nodeid: str) -> str:
    """Without the group that pytest-xdist appends: `tests/test_a.py::test_a[1]@group`."""
    at = nodeid.rfind("@")
    return nodeid[:at] if at > max(nodeid.rfind("]"), nodeid.rfind("::")) else nodeid


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
