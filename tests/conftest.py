"""Fixtures for all tests: an environment without telemetry settings, a receiver, a started telemetry."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.examples import THOROUGH
from tests.support.sink import Sink
from tests.support.started import Started, started

# The machines that run this are shared and slow at times: an example has no time limit, the test's own is enough.
settings.register_profile(
    "thorough", deadline=None, max_examples=THOROUGH, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("otelkit", settings.get_profile("thorough"), max_examples=THOROUGH // 4)
settings.load_profile("otelkit")

LONGEST_ID = 200


def pytest_make_parametrize_id(val: object) -> str | None:
    """A long parameter's head and length: an id of megabytes is sent between pytest-xdist's processes with every test,
    and no command line takes it.
    """
    return f"{val[:40]!a}-{len(val)}" if isinstance(val, str | bytes) and len(val) > LONGEST_ID else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where `.ci/run` has installed all servers (SERVERS_INSTALLED), a test that misses one fails."""
    report = yield
    if report.skipped and "apt-get install" in str(report.longrepr) and "SERVERS_INSTALLED" in os.environ:
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _no_telemetry_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell that runs the tests has set must not decide them; OTELKIT_STACK_BIN names programs, and the
    whole suite passes with either OTELKIT_ENGINE.
    """
    for name in list(os.environ):
        if name.startswith(("OTEL_", "OTELKIT_")) and name not in ("OTELKIT_STACK_BIN", "OTELKIT_ENGINE"):
            monkeypatch.delenv(name)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A real OTLP/HTTP receiver."""
    with Sink() as receiver:
        yield receiver


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[Started]:
    """Telemetry started in this process, with no library instrumented, delivering to a receiver of its own."""
    with started(tmp_path / "state") as running:
        yield running
