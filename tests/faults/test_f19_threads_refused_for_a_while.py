"""Fault 19: no thread can be started at the process's first records, for a reason that passes (a limit of threads is
reached). Nothing is raised, nothing is lost that the queue has room for, and later records start the threads.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import kill_session, run_python, start_python
from tests.support.sink import Sink
from tests.support.slow import slow

# RLIMIT_NPROC bounds the threads of a (real) user. It does not hold for root, nor for who has one of two capabilities.
PROGRAM = """
import ctypes, os, resource, threading, time, otelkit
if os.geteuid() == 0:
    os.setresuid(60_000 + os.getpid() % 5_000, 0, 0)
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(1 << 21 | 1 << 24)  # CAP_SYS_ADMIN, CAP_SYS_RESOURCE
    assert libc.capset(header, sets) == 0
_, most = resource.getrlimit(resource.RLIMIT_NPROC)
def emit(name, times):
    for number in range(times):
        with otelkit.span(name): otelkit.count("made")
        otelkit.event(name)
def otelkits():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("otelkit"))
otelkit.bootstrap("limited")
resource.setrlimit(resource.RLIMIT_NPROC, (1, most))
emit("refused", 1000)
assert otelkits() == [], otelkits()
"""
STARTED = """
resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
deadline = time.monotonic() + 10
times = 0
while len(otelkits()) < 2:
    assert time.monotonic() < deadline, otelkits()
    emit("later", 1)
    times += 1
    time.sleep(0.02)
"""
AFTERWARDS = f"""{STARTED}
while otelkit.status()["ledger"]["logs"]["delivered"] < 1000:  # nobody flushes
    assert time.monotonic() < deadline, otelkit.status()["ledger"]
    time.sleep(0.02)
print(times)
"""
METRICS_AFTERWARDS = f"""{STARTED}
print(times, flush=True)
time.sleep(60)
"""


def check_arrived(sink: Sink, times: int) -> None:
    for name, expected in (("refused", 1000), ("later", times)):
        assert len({span.span_id for span in sink.named(name)}) == len(sink.named(name)) == expected
        assert sum(log.record.event_name == name for log in sink.logs) == expected
    assert sink.total("made") == 1000 + times


def test_later_records_start_them(sink: Sink, tmp_path: Path) -> None:
    """As soon as the system has room, and without a flush."""
    finished = run_python(PROGRAM + AFTERWARDS, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
    assert "Traceback" not in finished.err
    times = int(finished.out)
    assert 0 < times < 200
    check_arrived(sink, times)


def test_a_flush_meanwhile_does_the_work_itself(sink: Sink, tmp_path: Path) -> None:
    """The threads that are started afterwards do the rest, once."""
    flush = "assert otelkit.flush(5).ok\nassert otelkits() == []\n"
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    finished = run_python(PROGRAM + flush + AFTERWARDS, cwd=tmp_path, environ=environ)
    assert "Traceback" not in finished.err
    check_arrived(sink, int(finished.out))


@pytest.mark.parametrize("engine", ["otelkit", *slow("sdk")])
def test_a_later_measurement_starts_them(sink: Sink, tmp_path: Path, engine: str) -> None:
    """Of the one series of a process that has no spans and no logs."""
    counts = """
emit = lambda name, times: [otelkit.count("made") for _ in range(times)]
otelkit.bootstrap("limited")
"""
    program = PROGRAM.replace('otelkit.bootstrap("limited")\n', counts) + METRICS_AFTERWARDS
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTELKIT_ENGINE": engine,
    }
    process = start_python(program, cwd=tmp_path, environ=environ)
    try:
        assert process.stdout is not None
        counted = 1000 + int(process.stdout.readline() or process.communicate()[1])
        sink.wait_for(lambda: sink.total("made") == counted, f"{counted} counted")  # nobody flushes
    finally:
        kill_session(process)
