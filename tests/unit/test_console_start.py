"""When the console shows something: by the exporters' names, by a terminal alone, in forked children, at the end."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.server import clean_environment

SCRIPT = """
import logging, threading, otelkit
otelkit.bootstrap("shop"{settings})
assert not [thread for thread in threading.enumerate() if thread.name.startswith("otelkit")], threading.enumerate()
with otelkit.span("order.place", sku="A5"):
    otelkit.count("orders.placed", plan="pro")
    logging.getLogger("shop").warning("stock is low")
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
TREE = re.compile(r"^ +[\d.]+ ms (?:━+ +)?order.place  \S+  trace [0-9a-f]{32}  sku=A5$", re.MULTILINE)


def on_a_terminal(source: str, *, cwd: Path, environ: Mapping[str, str]) -> str:
    """What a snippet shows on a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        cwd=cwd,
        env=clean_environment(
            OTELKIT_STATE_DIR=str(cwd / "state"), TERM="xterm-256color", PYTHONPATH=os.pathsep.join(sys.path), **environ
        ),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    end = time.monotonic() + 30
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    shown += os.read(ours, 65536)
                except OSError:  # the other side is closed
                    break
        assert process.wait(5) == 0, shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_a_terminal_alone_shows_the_tree(tmp_path: Path) -> None:
    """With no exporter and no endpoint named, and in colours."""
    shown = on_a_terminal(SCRIPT.format(settings=""), cwd=tmp_path, environ={"COLUMNS": "120"})
    assert TREE.search(COLOUR.sub("", shown)), shown
    assert COLOUR.search(shown)
    assert "traces=otlp→http://localhost:4318/v1/traces" in shown


@pytest.mark.slow
def test_nobody_at_the_default_endpoint_is_not_worth_a_word(tmp_path: Path) -> None:
    """Whoever only looks at the tree is not told at the start, nor at the end, that nothing was delivered."""
    shown = on_a_terminal(SCRIPT.format(settings=""), cwd=tmp_path, environ={"NO_COLOR": "1"})
    assert "WARNING otelkit" not in shown


@pytest.mark.slow
def test_no_color_is_honoured(tmp_path: Path) -> None:
    """The same tree, no colour; the mark of the level is a word."""
    shown = on_a_terminal(SCRIPT.format(settings=""), cwd=tmp_path, environ={"COLUMNS": "120", "NO_COLOR": "1"})
    assert TREE.search(shown), shown
    assert "WARNING stock is low  shop" in shown
    assert not COLOUR.search(shown)


@pytest.mark.slow
@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {"OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://127.0.0.1:9"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_whoever_names_an_exporter_gets_that_one_alone(environ: dict[str, str], tmp_path: Path) -> None:
    """A terminal suggests the tree only where nothing is said."""
    shown = on_a_terminal(
        SCRIPT.format(settings=", shutdown_timeout_s=0.1, otlp_timeout_s=0.1"), cwd=tmp_path, environ=environ
    )
    assert not TREE.search(COLOUR.sub("", shown)), shown


def test_without_a_terminal_there_is_no_tree(tmp_path: Path) -> None:
    """A service whose stderr is a file or a pipe stays as quiet as it was."""
    finished = run_python(SCRIPT.format(settings=", shutdown_timeout_s=0.1"), cwd=tmp_path)
    assert "order.place" not in finished.err


def test_each_signal_has_its_console(tmp_path: Path) -> None:
    """`console` by name needs no terminal: a tree, a line a record, a table; nothing is sent."""
    environ = dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "console")
    environ["COLUMNS"] = "120"
    finished = run_python(SCRIPT.format(settings=""), cwd=tmp_path, environ=environ)
    assert TREE.search(finished.err), finished.err
    assert re.search(r"WARNING shop stock is low  trace [0-9a-f]{32}$", finished.err, re.MULTILINE)
    assert re.search(r"^  orders.placed\{plan=pro\} +1$", finished.err, re.MULTILINE)
    assert not COLOUR.search(finished.err)


def test_the_tree_does_not_wait_for_the_collector(tmp_path: Path) -> None:
    """At the end it is printed first, and whoever does not answer is waited for after that."""
    source = """
    import io, socket, sys, time, otelkit
    silent = socket.create_server(("127.0.0.1", 0))
    url = "http://127.0.0.1:%d" % silent.getsockname()[1]
    otelkit.bootstrap("shop", otlp_endpoint=url, traces_exporter="console,otlp", shutdown_timeout_s=2)
    written = []
    with otelkit.span("order.place", sku="A5"):
        pass
    class Timed(io.StringIO):
        def write(self, text):
            if "order.place" in text:
                written.append(time.monotonic())
            return super().write(text)
    sys.stderr = Timed()
    began = time.monotonic()
    otelkit.shutdown()
    print(written[0] - began, time.monotonic() - began)
    """
    printed_s, ended_s = map(float, run_python(source, cwd=tmp_path).out.split())
    assert printed_s < 1.0
    assert 1.0 < ended_s < 2.5


def test_a_forked_child_has_a_tree_of_its_own(tmp_path: Path) -> None:
    """Every process shows its own spans, once, also the child of a child and one that begins before any span."""
    source = """
    import multiprocessing, otelkit
    otelkit.bootstrap("shop", traces_exporter="console", metrics_exporter="none", logs_exporter="none")

    def inner():
        with otelkit.span("in the grandchild"):
            pass

    def outer():
        with otelkit.span("in the child"):
            process = fork.Process(target=inner)
            process.start()
            process.join()

    fork = multiprocessing.get_context("fork")
    with otelkit.span("in the parent"):
        process = fork.Process(target=outer)
        process.start()
        process.join()
    assert process.exitcode == 0
    """
    finished = run_python(source, cwd=tmp_path)
    for name in ("in the parent", "in the child", "in the grandchild"):
        assert finished.err.count(name) == 1, finished.err
    assert len(set(re.findall(r"trace ([0-9a-f]{32})", finished.err))) == 1


def test_sampled_out_spans_are_not_shown(tmp_path: Path) -> None:
    """Nor are log records that were emitted in them."""
    finished = run_python(
        SCRIPT.format(settings=""),
        cwd=tmp_path,
        environ={"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": "always_off", "OTEL_LOGS_EXPORTER": "none"},
    )
    assert "order.place" not in finished.err
    assert "ms" not in finished.err


def test_a_disabled_sdk_shows_nothing(tmp_path: Path) -> None:
    """OTEL_SDK_DISABLED wins over the exporters."""
    environ = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}
    finished = run_python(SCRIPT.format(settings=""), cwd=tmp_path, environ=environ)
    assert "order.place" not in finished.err
    assert "metrics" not in finished.err


def test_the_tree_is_attached_to_someone_elses_provider(tmp_path: Path) -> None:
    """Spans of a provider that was set before bootstrap are shown too."""
    source = """
    import otelkit
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    trace.set_tracer_provider(TracerProvider())
    otelkit.bootstrap("shop", traces_exporter="console", metrics_exporter="none", logs_exporter="none")
    with trace.get_tracer("theirs").start_as_current_span("foreign"):
        pass
    """
    finished = run_python(source, cwd=tmp_path)
    assert re.search(r"foreign  \S+  trace [0-9a-f]{32}", finished.err), finished.err


def test_rich_is_not_imported_for_services(tmp_path: Path) -> None:
    """Only who looks at a console pays for it."""
    source = """
    import sys, otelkit
    otelkit.bootstrap("shop", shutdown_timeout_s=0.1)
    print([name for name in ("rich", "prometheus_client", "pytest") if name in sys.modules])
    """
    assert run_python(source, cwd=tmp_path).out.strip() == "[]"
