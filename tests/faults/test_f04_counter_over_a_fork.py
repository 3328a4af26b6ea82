"""A counter stands at 100, the process forks, the child adds 1: the service's one series says 101, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.slow import slow

ENGINES = ("otelkit", *slow("sdk"))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_parents_sums_stay_the_parents(sink: Sink, tmp_path: Path, engine: str) -> None:
    """Whoever of the two exports; the child's spans have an identity of their own, the metrics have one."""
    source = f"""
    import os, otelkit
    otelkit.bootstrap("shop", otlp_endpoint={sink.url!r}, shutdown_timeout_s=10)
    otelkit.count("visits", 100)
    otelkit.distribution("wait", 3, _unit="s")
    with otelkit.span("parent"): pass
    assert otelkit.flush(10).ok
    child = os.fork()
    if child == 0:
        otelkit.count("visits")
        otelkit.distribution("wait", 7, _unit="s")
        with otelkit.span("child"): pass
        assert otelkit.flush(10).ok
        os._exit(0 if otelkit.shutdown().ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert otelkit.flush(10).ok
    """
    run_python(source, cwd=tmp_path, environ={"OTELKIT_ENGINE": engine})
    assert sink.one_series("visits")[-1] == 101
    assert sink.one_series("wait")[-1] == 2
    spans = {name: sink.named(name)[0].resource["service.instance.id"] for name in ("parent", "child")}
    assert spans["parent"] != spans["child"]
    assert {metric.resource["service.instance.id"] for metric in sink.metrics} == {spans["parent"]}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_child_that_is_killed_has_counted(sink: Sink, tmp_path: Path, engine: str) -> None:
    """What it had flushed stays in the sum; so does a grandchild's."""
    source = f"""
    import os, signal, otelkit
    otelkit.bootstrap("shop", otlp_endpoint={sink.url!r}, shutdown_timeout_s=10)
    otelkit.count("visits", 100)
    with otelkit.span("parent"): pass
    child = os.fork()
    if child == 0:
        otelkit.count("visits", 10)
        grandchild = os.fork()
        if grandchild == 0:
            otelkit.count("visits", 1)
        with otelkit.span("child"): pass
        assert otelkit.flush(10).ok
        if grandchild:
            os.waitpid(grandchild, 0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert otelkit.flush(10).ok
    """
    run_python(source, cwd=tmp_path, environ={"OTELKIT_ENGINE": engine})
    assert sink.one_series("visits")[-1] == 111


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_children_that_are_killed_after_a_flush_have_counted(sink: Sink, tmp_path: Path, engine: str) -> None:
    """The first of them is alone when it flushes, and gone before the others could look at what it has said."""
    source = f"""
    import os, otelkit
    otelkit.bootstrap("shop", otlp_endpoint={sink.url!r})
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            otelkit.count("visits", 10)
            with otelkit.span("child"): pass
            os._exit(0 if otelkit.flush(10).ok else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    """
    run_python(source, cwd=tmp_path, environ={"OTELKIT_ENGINE": engine})
    assert sink.one_series("visits")[-1] == 30
