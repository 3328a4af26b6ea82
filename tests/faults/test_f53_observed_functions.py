"""A function that is observed is slow, or raises: the worker survives it, and every other metric goes on arriving."""

from __future__ import annotations

from pathlib import Path

from tests.faults.spooled import run_service
from tests.support.sink import Sink

FAST = {"OTEL_METRIC_EXPORT_INTERVAL": "100", "OTEL_BSP_SCHEDULE_DELAY": "100"}
# The functions under test, `bad`, are observed by otelkit.observe and by OpenTelemetry's API, beside good ones; the
# application goes on until every one was read several times.
SOURCE = """
import threading
from collections import Counter
from opentelemetry import metrics

calls, threads = Counter(), set()

def noted(name, function):
    def read():
        calls[name] += 1
        threads.add(threading.current_thread().name)
        return function()
    return read

def api(read):
    return lambda options: [metrics.Observation(read()), metrics.Observation(4, {"queue": "other"})]

meter = metrics.get_meter("shop")
for name, function in bad.items():
    otelkit.observe(f"{name}.own", noted(name, function))
    otelkit.observe(f"{name}.own", lambda: 3, queue="other")
    meter.create_observable_gauge(f"{name}.api", [api(noted(name, function))])
otelkit.observe("good.own", lambda: 5)
meter.create_observable_counter("good.api", [lambda options: [metrics.Observation(7)]])
deadline = time.monotonic() + PATIENCE_S
made = 0
while made < 100 or min(calls[name] for name in bad) < 6:
    assert time.monotonic() < deadline, (made, calls)
    otelkit.count("made")
    with otelkit.span("work"): pass
    made += 1
    time.sleep(0.01)
assert otelkit.flush(20).ok
assert threads == {"otelkit-observer"}
print(made)
"""


def others_arrived(sink: Sink, made: int) -> None:
    """All the rest of what SOURCE records."""
    assert len(sink.named("work")) == made
    sums = sink.one_series("made")
    assert sums[-1] == made
    assert len(sums) >= 3  # in collections that came one after the other
    assert sink.one_series("good.own")[-1] == 5
    assert sink.one_series("good.api")[-1] == 7


def series(sink: Sink, name: str) -> dict[str | None, float]:
    """The newest values of a metric, by the label `queue`."""
    return {dict(labels).get("queue"): values[-1] for (_, labels), values in sink.series(name).items()}


def test_functions_that_raise_or_return_no_number(tmp_path: Path, sink: Sink) -> None:
    """Each costs its own value alone, and is told once a minute; SystemExit would end a thread without a word."""
    source = """
def raises(): raise RuntimeError("the queue is gone")
def exits(): sys.exit(3)
def interrupted(): raise KeyboardInterrupt
def text(): return "many"
def nothing(): return None
bad = {function.__name__: function for function in (raises, exits, interrupted, text, nothing)}
"""
    finished = run_service(source + SOURCE, sink.port, tmp_path, environ=FAST)
    others_arrived(sink, int(finished.out))
    for name in ("raises", "exits", "interrupted", "text", "nothing"):
        assert series(sink, f"{name}.own") == {"other": 3}, name
    assert series(sink, "text.api") == series(sink, "nothing.api") == {"other": 4}
    assert finished.err.count("a function under otelkit.observe failed") == 1
    assert finished.err.count("a callback of an observable instrument failed") == 1
    assert finished.err.count("does nothing: it is no number") == 1


def test_a_slow_function(tmp_path: Path, sink: Sink) -> None:
    """Slower than the interval between two collections: these come later, with everything."""
    source = """
def slow():
    time.sleep(0.15)
    return 1
bad = {"slow": slow}
"""
    finished = run_service(source + SOURCE, sink.port, tmp_path, environ=FAST)
    others_arrived(sink, int(finished.out))
    assert series(sink, "slow.own") == {None: 1, "other": 3}
    assert series(sink, "slow.api") == {None: 1, "other": 4}
    assert "WARNING" not in finished.err


def test_a_function_that_never_returns(tmp_path: Path, sink: Sink) -> None:
    """It costs a second once; it is told, and nothing else waits for it, a flush and the end of the process neither."""
    source = """
import threading
from opentelemetry import metrics
calls = []
def stuck():
    calls.append(threading.current_thread().name)
    threading.Event().wait()
otelkit.observe("stuck.own", stuck)
metrics.get_meter("shop").create_observable_gauge("stuck.api", [lambda options: [metrics.Observation(stuck())]])
otelkit.observe("good.own", lambda: 5)
deadline = time.monotonic() + PATIENCE_S
while time.monotonic() < deadline and calls.count("otelkit-observer") < 2:
    with otelkit.span("work"): pass
    time.sleep(0.05)
otelkit.flush(20)
began = time.monotonic()
for number in range(20):
    with otelkit.span("later", n=number): pass
    assert otelkit.flush(5).ok
print(time.monotonic() - began, len(calls))
"""
    finished = run_service(source, sink.port, tmp_path, environ=FAST)
    took_s, calls = map(float, finished.out.split())
    assert len(sink.named("later")) == 20
    assert sink.one_series("good.own")[-1] == 5
    assert calls == 2
    assert took_s < 10  # and not a second for each collection and function
    assert finished.err.count("takes more than a second") == 2


def test_a_function_that_takes_longer_than_a_second(tmp_path: Path, sink: Sink) -> None:
    """What it returns in the end is the value of the next collection."""
    source = """
import threading
returned = threading.Event()
def slow():
    time.sleep(1.3)
    returned.set()
    return 1
otelkit.observe("slow.own", slow)
otelkit.observe("good.own", lambda: 5)
otelkit.flush(20)
print(returned.is_set())
assert returned.wait(PATIENCE_S)
"""
    finished = run_service(source, sink.port, tmp_path, environ={"OTEL_METRIC_EXPORT_INTERVAL": "600000"})
    if finished.out.strip() == "False":  # the flush did not wait for it
        assert finished.err.count("takes more than a second") == 1
    assert sink.one_series("slow.own") == [1]
    assert sink.one_series("good.own") == [5, 5]
