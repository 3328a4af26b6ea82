"""CI tries once more what failed, and says what passed only then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.second_try import HEADING

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WITH_WORKERS = ("-n", "1", "--dist", "loadgroup")

FLAKY = """
    import pathlib
    import pytest

    @pytest.mark.xdist_group("one")
    @pytest.mark.parametrize("letter", ["a@b"])
    def test_flaky(letter):
        tried = pathlib.Path("tried")
        if not tried.exists():
            tried.touch()
            raise AssertionError

    def test_good():
        with pathlib.Path("good").open("a") as file:
            file.write("run ")
"""


def tried(folder: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run with a second try, of a file with this source."""
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    lines = source.splitlines()
    (folder / "test_it.py").write_text("\n".join(line.removeprefix("    ") for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "tools.second_try", "-p", "no:otelkit", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


def test_what_passes_when_tried_again_is_named_and_fails_nothing(tmp_path: Path) -> None:
    """By the name that pytest takes, without the group that pytest-xdist appends; what had passed is not run again."""
    run = tried(tmp_path, FLAKY, *WITH_WORKERS)
    assert run.returncode == 0, run.stdout + run.stderr
    _, named = run.stdout.split(f"===== {HEADING} =====")
    assert named.split() == ["test_it.py::test_flaky[a@b]"]
    assert (tmp_path / "good").read_text(encoding="utf-8") == "run "


def test_what_fails_twice_fails_with_the_exit_code_of_failed_tests(tmp_path: Path) -> None:
    """Also when another one beside it passed at the second try, which is named all the same."""
    run = tried(tmp_path, FLAKY + "\n    def test_bad():\n        assert False\n")
    assert run.returncode == 1, run.stdout + run.stderr
    _, named = run.stdout.split(f"===== {HEADING} =====")
    assert named.split() == ["test_it.py::test_flaky[a@b]"]


def test_a_dead_worker_gets_no_second_try(tmp_path: Path) -> None:
    """A crash is no noise: a test that would pass the next time does not hide it."""
    run = tried(tmp_path, FLAKY.replace("raise AssertionError", "import os; os.abort()"), "-n", "1")
    assert run.returncode == 1, run.stdout + run.stderr
    assert HEADING not in run.stdout


def test_a_file_that_is_no_python_gets_no_second_try(tmp_path: Path) -> None:
    """The exit code is pytest's for a run that was broken off."""
    run = tried(tmp_path, FLAKY + "\n    def (\n")
    assert run.returncode == 2, run.stdout + run.stderr
    assert "once more" not in run.stdout
