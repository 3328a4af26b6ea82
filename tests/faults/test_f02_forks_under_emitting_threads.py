"""Fault 2: 300 forks while three threads emit. No child hangs, whatever was held at its moment, and each one's span
arrives.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Sink

FORKS = """
import os, signal, sys, threading, otelkit
otelkit.bootstrap("forks")
stop = threading.Event()
{noise}
threads = [threading.Thread(target=noise, args=(number,)) for number in range(3)]
for thread in threads: thread.start()
def reap(most):  # a child waits for the parent most of the time: some at once
    while len(children) > most:
        child, ended = os.wait()
        number = children.pop(child)
        if ended:
            print("child", number, "ended with", ended, flush=True)
children = {{}}
for number in range({forks}):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that hangs
{work}
    children[child] = number
    reap(16)
reap(0)
stop.set()
for thread in threads: thread.join()
"""
EVERYTHING = """
def noise(number):
    made = 0
    while not stop.wait(0.002):
        made += 1
        with otelkit.span("noise"): pass
        otelkit.count("noise.count", n=made % 50)
        otelkit.event("noise")
        if made % 100 == 0 and made < 2_000:  # the making of instruments takes locks
            otelkit.gauge(f"noise.g{number}.{made}", 1)
"""
SEND = """
        with otelkit.span("childs"): pass
        otelkit.count("childs.count")
        os._exit(0 if otelkit.flush(15).ok else 1)
"""
OBSERVING = """
def noise(number):
    while not stop.is_set():
        for _ in range(200):
            otelkit.observe("depth", lambda: 1).close()
"""
OBSERVE = """
        with otelkit.observe("depth", lambda: 2): pass
        os._exit(0)
"""


@pytest.mark.slow
def test_every_child_sends_its_span(sink: Sink, tmp_path: Path) -> None:
    """Spans, counts, events and new instruments in the threads; in the child a span, a count and a flush."""
    source = FORKS.format(noise=EVERYTHING, work=SEND, forks=300)
    finished = run_python(source, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}, deadline_s=100)
    assert finished.out == "", finished.err
    assert len({span.span_id for span in sink.named("childs")}) == len(sink.named("childs")) == 300


def test_threads_that_never_rest(sink: Sink, tmp_path: Path) -> None:
    """They keep the interpreter's lock from the thread that imports, for which a fork waits; the wait has an end."""
    busy = EVERYTHING.replace("stop.wait(0.002)", "stop.is_set()")
    source = FORKS.format(noise=busy, work=SEND, forks=5)
    finished = run_python(source, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}, deadline_s=100)
    assert finished.out == "", finished.err
    assert len({span.span_id for span in sink.named("childs")}) == 5


@pytest.mark.slow
def test_threads_that_observe(sink: Sink, tmp_path: Path) -> None:
    """Whoever held the lock of the observed functions is not in the child, which observes all the same."""
    source = FORKS.format(noise=OBSERVING, work=OBSERVE, forks=40)
    assert run_python(source, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}, deadline_s=100).out == ""
