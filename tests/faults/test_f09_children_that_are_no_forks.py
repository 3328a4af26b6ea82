"""Fault 9: the children of multiprocessing and of ProcessPoolExecutor, forked or begun anew. Telemetry works in them
where the program bootstraps there too; where it does not, they say that it is inactive.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.slow import slow

PROGRAM = """
import json, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
import otelkit

def bootstrap():
    otelkit.bootstrap("pool", bsp_schedule_delay_s=60, metric_export_interval_s=60, shutdown_timeout_s=10)

{where}

def work(number):
    with otelkit.span("work", n=number):
        otelkit.count("made")
    status = otelkit.status()
    return [status["state"], status["pid"], os.getpid(), status["before_bootstrap"]]

if __name__ == "__main__":
    bootstrap()
    with otelkit.span("main"): pass
    context = multiprocessing.get_context({method!r})
    if {executor}:
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            said = list(pool.map(work, range(10)))
    else:
        with context.Pool(2) as pool:
            said = pool.map(work, range(10), chunksize=1)
            pool.close()
            pool.join()
    print(json.dumps(said))
"""
RUN = "import runpy; runpy.run_path('program.py', run_name='__main__')"


def run(
    sink: Sink, place: Path, *, where: str, method: str, executor: bool
) -> tuple[list[tuple[str, int, int, int]], str]:
    """What each of ten tasks says of its process, and what was printed to stderr."""
    (place / "program.py").write_text(PROGRAM.format(where=where, method=method, executor=executor))
    finished = run_python(RUN, cwd=place, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}, deadline_s=60)
    assert "Traceback" not in finished.err
    assert len(sink.named("main")) == 1
    return [tuple(said) for said in json.loads(finished.out)], finished.err


@pytest.mark.parametrize(
    ("method", "executor"), [("fork", False), ("spawn", True), *slow(("fork", True), ("forkserver", False))]
)
def test_a_program_that_bootstraps_when_it_is_imported(sink: Sink, tmp_path: Path, method: str, executor: bool) -> None:
    """Forked children go on, spawned ones begin anew: ten tasks, ten spans, sent at the children's end."""
    said, _ = run(sink, tmp_path, where="bootstrap()", method=method, executor=executor)
    assert {state for state, *_ in said} == {"running"}
    assert all(told == pid for _, told, pid, _ in said)
    assert sorted(span.attributes["n"] for span in sink.named("work")) == list(range(10))
    assert len({span.span_id for span in sink.named("work")}) == 10
    (main,) = sink.named("main")
    children = {span.resource["process.pid"]: span.resource["service.instance.id"] for span in sink.named("work")}
    assert set(children) == {pid for _, _, pid, _ in said}
    assert len({main.resource["service.instance.id"], *children.values()}) == len(children) + 1
    sink.wait_for(lambda: sink.total("made") == 10, "ten counts")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_that_bootstraps_in_main_alone(sink: Sink, tmp_path: Path, method: str) -> None:
    """A spawned child knows nothing of telemetry: it says so in its status, counts the calls, and warns once."""
    said, warned = run(sink, tmp_path, where="", method=method, executor=True)
    assert {state for state, *_ in said} == {"not started"}
    children = {pid for _, _, pid, _ in said}
    assert warned.count("was called before otelkit.bootstrap()") == len(children)
    for child in children:
        counted = [calls for _, _, pid, calls in said if pid == child]
        assert counted == [2 * number for number in range(1, len(counted) + 1)]
    assert sink.named("work") == []
