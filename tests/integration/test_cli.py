"""The `otelkit` command as a person uses it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.process import start_python
from tests.support.server import clean_environment
from tests.support.sink import Sink
from tests.support.slow import slow


def otelkit(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a folder."""
    return subprocess.run(
        ["otelkit", *arguments],
        cwd=cwd,
        env=clean_environment(COLUMNS="200", **environ),
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_env_prints_every_setting_with_its_source_and_no_secret(tmp_path: Path) -> None:
    """Argument-less sources: environment, pyproject.toml, default; headers are masked."""
    (tmp_path / "pyproject.toml").write_text('[tool.otelkit]\nlog_level = "debug"\n')
    done = otelkit(
        "env", cwd=tmp_path, OTEL_SERVICE_NAME="shop", OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20s3cr3t"
    )
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    assert rows["OTEL_SERVICE_NAME"] == ["shop", "environment"]
    assert rows["OTELKIT_LOG_LEVEL"] == ["debug", "pyproject"]
    assert rows["OTEL_EXPORTER_OTLP_HEADERS"] == ["***", "environment"]
    assert rows["OTEL_TRACES_SAMPLER"] == ["parentbased_always_on", "default"]
    assert "s3cr3t" not in done.stdout + done.stderr


def test_env_as_json_and_only_what_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs, and for a short look."""
    monkeypatch.delenv("OTELKIT_ENGINE", raising=False)  # the one that the tests are run with
    done = otelkit("env", "--json", "--set", cwd=tmp_path, OTEL_SERVICE_NAME="shop", OTELKIT_INSTRUMENT_REDIS="off")
    assert json.loads(done.stdout) == [
        {"name": "OTEL_SERVICE_NAME", "value": "shop", "unit": "", "source": "environment"},
        {"name": "OTELKIT_INSTRUMENT_REDIS", "value": "off", "unit": "", "source": "set"},
    ]


def test_env_names_the_unit_of_every_quantity(tmp_path: Path) -> None:
    """A duration as its source has it: the variable in milliseconds, the key in seconds; bytes too."""
    (tmp_path / "pyproject.toml").write_text("[tool.otelkit]\nblrp_schedule_delay_s = 2.5\n")
    done = otelkit("env", cwd=tmp_path, OTEL_BSP_SCHEDULE_DELAY="700", OTELKIT_SHUTDOWN_TIMEOUT_S="3")
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    assert rows["OTEL_BSP_SCHEDULE_DELAY"] == ["700", "ms", "environment"]
    assert rows["OTEL_BLRP_SCHEDULE_DELAY"] == ["2.5", "s", "pyproject"]
    assert rows["OTEL_METRIC_EXPORT_INTERVAL"] == ["60000", "ms", "default"]
    assert rows["OTEL_EXPORTER_OTLP_LOGS_TIMEOUT"] == ["10000", "ms", "default"]
    assert rows["OTELKIT_SHUTDOWN_TIMEOUT_S"] == ["3", "s", "environment"]
    assert rows["OTELKIT_MAX_PENDING_BYTES"] == ["67108864", "bytes", "default"]
    assert rows["OTEL_BSP_MAX_QUEUE_SIZE"] == ["2048", "default"]
    data = json.loads(otelkit("env", "--json", cwd=tmp_path).stdout)
    (row,) = [row for row in data if row["name"] == "OTEL_BSP_SCHEDULE_DELAY"]
    assert row == {"name": "OTEL_BSP_SCHEDULE_DELAY", "value": "5000", "unit": "ms", "source": "default"}


@pytest.mark.parametrize("columns", ["20", *slow("80")])
def test_env_cuts_nothing_in_a_pipe(tmp_path: Path, columns: str) -> None:
    """Whatever the width is said to be, and also what looks like the markup of a terminal library."""
    patterns = ",".join(f"/[a-z]/{number}/[bold]" for number in range(40))
    done = subprocess.run(
        ["otelkit", "env"],
        cwd=tmp_path,
        env=clean_environment(COLUMNS=columns, OTEL_PYTHON_EXCLUDED_URLS=patterns),
        capture_output=True,
        text=True,
        timeout=30,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("OTEL_PYTHON_EXCLUDED_URLS")]
    assert line.split() == ["OTEL_PYTHON_EXCLUDED_URLS", patterns, "environment"]


def test_env_tells_what_was_hardly_meant(tmp_path: Path) -> None:
    """A time-out in another implementation's seconds; that is no mistake that strict refuses."""
    done = otelkit("env", cwd=tmp_path, OTEL_EXPORTER_OTLP_TIMEOUT="10", OTELKIT_STRICT="1")
    assert done.returncode == 0
    assert done.stderr.count("warning: OTEL_EXPORTER_OTLP_TIMEOUT='10' is 10 milliseconds") == 1


def test_env_says_what_is_wrong(tmp_path: Path) -> None:
    """A wrong value is a warning that names variable, value and what is allowed; strict ends with 1."""
    done = otelkit("env", cwd=tmp_path, OTEL_TRACES_SAMPLER="sometimes")
    assert done.returncode == 0
    assert "warning: OTEL_TRACES_SAMPLER='sometimes': allowed is one of always_on" in done.stderr
    strict = otelkit("env", cwd=tmp_path, OTEL_TRACES_SAMPLER="sometimes", OTELKIT_STRICT="1")
    assert strict.returncode == 1
    assert "Traceback" not in strict.stderr
    assert "using the default" not in strict.stderr
    status = otelkit("status", cwd=tmp_path, OTEL_TRACES_SAMPLER="sometimes", OTELKIT_STRICT="1")
    assert status.returncode == 1
    assert status.stderr.startswith("otelkit status: OTEL_TRACES_SAMPLER='sometimes'")


@pytest.fixture
def running(sink: Sink, tmp_path: Path) -> subprocess.Popen[str]:
    """A process that has recorded three spans, delivered, and lives."""
    process = start_python(
        f"""
        import otelkit
        otelkit.bootstrap("looked-at", otlp_endpoint={sink.url!r}, metrics_exporter="none", logs_exporter="none")
        for number in range(3):
            with otelkit.span("work"):
                pass
        assert otelkit.flush().ok
        print("ready", flush=True)
        input()
        """,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_status_reads_another_processs_ledger(running: subprocess.Popen[str], tmp_path: Path) -> None:
    """Without a signal or a port; as a table, as JSON, and gone when the process has ended."""
    state = str(tmp_path / "state")
    try:
        table = otelkit("status", "--pid", str(running.pid), cwd=tmp_path, OTELKIT_STATE_DIR=state)
        assert table.returncode == 0, table.stderr
        assert f"looked-at pid {running.pid}, running" in table.stdout
        row = next(line.split() for line in table.stdout.splitlines() if line.startswith("traces"))
        assert row == ["traces", "3", "3", "0", "0", "0"]
        data = json.loads(otelkit("status", "--json", cwd=tmp_path, OTELKIT_STATE_DIR=state).stdout)
        assert data[0]["signals"]["traces"] == {
            "accepted": 3,
            "delivered": 3,
            "spooled": 0,
            "in_memory": 0,
            "truncated": 0,
            "dropped": {},
        }
    finally:
        _, errors = running.communicate("\n", timeout=20)
    assert running.returncode == 0, errors
    gone = otelkit("status", "--pid", str(running.pid), cwd=tmp_path, OTELKIT_STATE_DIR=state)
    assert gone.returncode == 1
    assert f"no ledger of process {running.pid}" in gone.stderr


def test_a_process_that_is_switched_off_has_nothing_to_show(tmp_path: Path) -> None:
    """Its own status says `disabled`, and the command says why there may be no ledger."""
    process = start_python(
        """
        import otelkit
        otelkit.bootstrap("off")
        with otelkit.span("work"):
            pass
        print(otelkit.status()["state"], flush=True)
        input()
        """,
        cwd=tmp_path,
        environ={"OTEL_SDK_DISABLED": "true"},
    )
    assert process.stdout is not None
    state = process.stdout.readline()
    looked = otelkit("status", "--pid", str(process.pid), cwd=tmp_path, OTELKIT_STATE_DIR=str(tmp_path / "state"))
    _, errors = process.communicate("\n", timeout=20)
    assert (process.returncode, state) == (0, "disabled\n"), errors
    assert looked.returncode == 1
    assert "OTEL_SDK_DISABLED" in looked.stderr


def test_the_next_process_tells_of_one_that_was_killed(sink: Sink, tmp_path: Path) -> None:
    """SIGKILL with 5 spans in memory: the page stays, and the next start reports the exact number once."""
    killed = start_python(
        """
        import os, otelkit, signal
        otelkit.bootstrap("killed", otlp_endpoint="http://127.0.0.1:9", metrics_exporter="none", logs_exporter="none")
        for number in range(5):
            with otelkit.span("work"):
                pass
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        cwd=tmp_path,
    )
    killed.communicate(timeout=20)
    looked = otelkit("status", cwd=tmp_path, OTELKIT_STATE_DIR=str(tmp_path / "state"))
    assert f"killed pid {killed.pid}, ended without closing its ledger" in looked.stdout
    source = f"""
        import otelkit
        otelkit.bootstrap("next", otlp_endpoint={sink.url!r}, metrics_exporter="none", logs_exporter="none")
        with otelkit.span("work"):
            pass
        assert otelkit.flush().ok
        """
    outputs = []
    for _ in range(2):
        process = start_python(source, cwd=tmp_path)
        outputs.append(process.communicate(timeout=20)[1])
    assert f"process {killed.pid} (killed) ended with 5 records undelivered" in outputs[0]
    assert "undelivered" not in outputs[1]


def test_help_and_version(tmp_path: Path) -> None:
    """The commands introduce themselves."""
    assert otelkit("--version", cwd=tmp_path).stdout.startswith("otelkit ")
    shown = otelkit("--help", cwd=tmp_path).stdout
    for command in ("run", "auto", "env", "status"):
        assert command in shown
    run = otelkit("run", "--help", cwd=tmp_path).stdout
    assert "Usage: otelkit run [OPTIONS] " in run
    assert "COMMAND" in run
    assert "otelkit run uvicorn app:app" in run
