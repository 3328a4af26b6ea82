"""A library in a version that otelkit was not tested with: the status says it was skipped; OTELKIT_STRICT=1 raises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otelkit.instrumentation.library import LIBRARIES
from tests.support.contrib import pretend
from tests.support.process import Finished, run_python

START = """
import json, sys
sys.path.insert(0, "newer")
import otelkit
"""
# What instrumentations wrap, and Celery's receivers. FastAPI alone is wrapped nevertheless: what it records by itself,
# as soon as there are providers, nobody has asked for.
WRAPPED = """
import celery.signals, fastapi, redis, sqlalchemy, starlette.applications
def wrapped():
    return [
        vars(fastapi.FastAPI)["__call__"],
        vars(starlette.applications.Starlette)["__call__"],
        vars(sqlalchemy.Engine)["raw_connection"],
        vars(redis.Redis)["execute_command"],
        list(celery.signals.task_prerun.receivers),
    ]
before = wrapped()
"""


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A folder whose metadata say that every library is there in version 99."""
    for library in LIBRARIES:
        (tmp_path / "newer").mkdir(exist_ok=True)
        pretend(tmp_path / "newer", library.distribution, "99.0")
    return tmp_path


def run(place: Path, source: str, **environ: str) -> Finished:
    """A snippet that sees the newer libraries and exports nothing."""
    nothing = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    return run_python(START + source, cwd=place, environ={**nothing, **environ})


def test_it_is_skipped_and_the_status_says_so(newer: Path) -> None:
    """With the reason, one WARNING a library, and their classes as they were."""
    source = """
otelkit.bootstrap("x")
same = [now is then or now == then for now, then in zip(wrapped(), before)]
print(json.dumps([otelkit.status()["libraries"], same]))
"""
    finished = run(newer, WRAPPED + source)
    found, same = json.loads(finished.out)
    for library in LIBRARIES:
        row = found[library.name]
        assert (row["choice"], row["active"], row["version"]) == ("off", False, "99.0"), row
        assert row["reason"] == f"99.0 is outside of {library.range}"
        assert (
            finished.err.count(f"{library.name} 99.0 is outside of {library.range}, which otelkit was tested with") == 1
        )
    assert [all(same[1:]), len(same)] == [True, 5]


def test_strict_raises_and_names_them_all(newer: Path) -> None:
    """And starts nothing."""
    source = """
try:
    otelkit.bootstrap("x")
except otelkit.UnsupportedLibrary as error:
    print(json.dumps([str(error), otelkit.status()["state"]]))
"""
    told, state = json.loads(run(newer, source, OTELKIT_STRICT="1").out)
    for library in LIBRARIES:
        assert f"{library.name} 99.0 is outside of {library.range}" in told
    assert state == "not started"


def test_who_chooses_it_gets_it(newer: Path) -> None:
    """A setting that names the instrumentation takes the version upon itself, also under OTELKIT_STRICT."""
    chosen = {f"OTELKIT_INSTRUMENT_{library.name.upper()}": "otelkit" for library in LIBRARIES}
    source = """
import redis
otelkit.bootstrap("x")
print(json.dumps(otelkit.status()["libraries"]["redis"]))
"""
    row = json.loads(run(newer, source, OTELKIT_STRICT="1", **chosen).out)
    assert (row["choice"], row["active"]) == ("otelkit", True)
