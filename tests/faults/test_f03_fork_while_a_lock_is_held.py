"""Fault 3: the process forks while another thread holds a lock, for each lock of otelkit's in turn. The child emits,
flushes and ends all the same.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otelkit.runtime.interpreter import FREE_THREADED
from tests.support import locks
from tests.support.process import run_python
from tests.support.server import free_port
from tests.support.sink import Sink

NOT_TRIED = {
    "console/tree_printer.py TreePrinter._ask": "lives for one call, and no other thread's",
    "given.py _Work.__init__": "made for one flush, of an application's own objects",
    "instrumentation/celery_monitor.py Monitor.__init__": "in the monitor's process, or beat's, which fork nothing",
    "runtime/bell.py Bell.__init__": "held by nobody in particular: it is locked until somebody rings",
    "testing/recording.py Recording.__init__": "within an application's tests alone",
    **dict.fromkeys(
        (
            "viewer/live.py Live.__init__",
            "viewer/receive.py Receiver.__init__",
            "viewer/writer.py Writer.__init__",
        ),
        "in the viewer's process, which forks nothing",
    ),
}

FREE_THREADED_ONLY = (
    "delivery/ledger.py SignalCells.use",
    "engine/cells.py Cell.reset",
    "engine/span.py _Ending.renew",
)
if not FREE_THREADED:
    NOT_TRIED.update(dict.fromkeys(FREE_THREADED_ONLY, "only in a free-threaded build"))

# `made` has every lock that otelkit has made, whatever library's code it stands in, by its place in otelkit's source.
PROGRAM = """
import faulthandler, json, logging, os, sys, threading
def watch_out():  # ends a child that hangs, in the hooks of its fork too, and says where
    faulthandler.dump_traceback_later(10, exit=True)
os.register_at_fork(after_in_child=watch_out)
from tests.support import locks
made = locks.watch()
import otelkit
from otelkit.runtime import fork
fork._LONGEST_WAIT_S = 0.2  # what a fork waits for a thread that imports

def bootstrap():
    otelkit.bootstrap("forks", disabled_instrumentations="")

def emit(name):
    with otelkit.span(name): pass
    otelkit.count(f"{name}.count")
    otelkit.count(f"{name}.count", label=name)
    otelkit.distribution(f"{name}.size", 3)
    otelkit.event(name)
    otelkit.observe(f"{name}.depth", lambda: 1)
    otelkit.observe(f"{name}.fails", lambda: 1 / 0)
    logging.getLogger(name).warning("said")

def child():
    emit("childs")
    bootstrap()
    otelkit.status()
    import multiprocessing.util  # otelkit waits for this import
    assert otelkit.flush(8).ok
    assert otelkit.shutdown(8).ok
    os._exit(0)

def forked_while_held(locks):
    held, forked = threading.Event(), threading.Event()
    def hold():
        for lock in locks:
            assert lock.acquire(timeout=10), lock
        held.set()
        forked.wait()
        for lock in locks:
            lock.release()
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    pid = os.fork()
    if pid == 0:
        child()
    forked.set()
    holder.join()
    return pid

def try_each(places):
    children = {}
    def reap(most):
        while len(children) > most:
            pid, ended = os.wait()
            place = children.pop(pid)
            if ended:
                failed.append(place)
    for place in places:
        children[forked_while_held(list(made[place]))] = place
        reap(6)
    reap(0)

bootstrap()
emit("parents")
assert otelkit.flush(10).ok
assert "multiprocessing.util" not in sys.modules
failed = []
bell = {"runtime/bell.py Bell.__init__"}
first = sorted(set(made) - bell)
try_each(first)
# In a child the locks are made anew, at other places in part: those are held at the fork of a grandchild.
pid = os.fork()
if pid == 0:
    faulthandler.cancel_dump_traceback_later()
    emit("childs")
    assert otelkit.flush(10).ok
    try_each(sorted(set(made) - set(first) - bell))
    print(json.dumps([sorted(set(made) - bell), failed]), flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(json.dumps([first, failed]), flush=True)
"""


@pytest.mark.slow
def test_the_child_lives(sink: Sink, tmp_path: Path) -> None:
    """Every signal, the console and the pull endpoint are on; a new lock in the source must be among those held."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_TRACES_EXPORTER": "otlp,console",
        "OTEL_METRICS_EXPORTER": "otlp,console,prometheus",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(free_port()),
        "OTELKIT_RECORDER": "on",
    }
    finished = run_python(PROGRAM, cwd=tmp_path, environ=environ, deadline_s=100)
    said = [json.loads(line) for line in finished.out.splitlines() if line.startswith("[[")]
    failed = [place for _, places in said for place in places]
    assert failed == [], finished.err[-5000:]
    held = {place for places, _ in said for place in places}
    assert locks.in_source() - held == set(NOT_TRIED)
    assert len(held) > 30
    assert len({span.span_id for span in sink.named("childs")}) == len(held) + 1


def test_a_fork_waits_for_a_line_that_otelkit_is_printing(tmp_path: Path) -> None:
    """The lock of a stream is no lock of ours: a child that is forked within a write would wait for it for ever."""
    source = """
    import logging, os, threading, time, otelkit
    printing = threading.Event()
    printed = False
    class Slow(logging.StreamHandler):
        def emit(self, record):
            global printed
            if threading.current_thread().name.startswith("otelkit-"):
                printing.set()
                time.sleep(0.5)
                printed = True
    logging.getLogger().addHandler(Slow())
    otelkit.bootstrap("forks", otlp_endpoint="http://127.0.0.1:9", shutdown_timeout_s=0)
    with otelkit.span("work"): pass
    otelkit.flush(0.0)
    assert printing.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(0 if printed else 1)
    print(os.waitpid(child, 0)[1])
    """
    assert run_python(source, cwd=tmp_path).out == "0\n"
