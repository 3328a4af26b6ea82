"""The span and what is bound go along into whatever an application starts, and no further."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import multiprocessing
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from opentelemetry import baggage, context, propagate, trace

import otelkit
from otelkit.signals import correlation
from otelkit.signals.suppression import silence
from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.slow import slow
from tests.support.started import Started, started

Work = Callable[[], None]


@pytest.fixture(params=["otelkit", "sdk"])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Started]:
    """Telemetry with threads instrumented, made by each engine."""
    with started(tmp_path, instrument={"threading": "otelkit"}, engine=request.param) as running:
        yield running


def work() -> None:
    """What runs elsewhere: a span, a log record, a value for the request."""
    with otelkit.span("work"):
        otelkit.event("worked")
    otelkit.bind(found=3)
    otelkit.unbind("gone")


def in_thread(call: Work) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def in_subclass(call: Work) -> None:
    class Mine(threading.Thread):
        def run(self) -> None:
            call()

    mine = Mine(daemon=True)
    mine.start()
    mine.join()


def in_timer(call: Work) -> None:
    timer = threading.Timer(0.001, functools.partial(call))
    timer.start()
    timer.join()


def in_pool(call: Work) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call).result()


def in_map(call: Work) -> None:
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda _: call(), [1]))


def in_task(call: Work) -> None:
    async def one() -> None:
        call()

    async def main() -> None:
        await asyncio.create_task(one())

    asyncio.run(main())


def in_executor(call: Work) -> None:
    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, call)

    asyncio.run(main())


def in_to_thread(call: Work) -> None:
    asyncio.run(asyncio.to_thread(call))


def in_anyio(call: Work) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, call)

    anyio.run(main)


def from_anyio_thread(call: Work) -> None:
    async def inner() -> None:
        call()

    async def main() -> None:
        await anyio.to_thread.run_sync(anyio.from_thread.run, inner)

    anyio.run(main)


def in_generator(call: Work) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        call()
        yield 2

    assert list(numbers()) == [1, 2]


def in_async_generator(call: Work) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        call()

    async def main() -> None:
        async for _ in numbers():
            pass

    asyncio.run(main())


def in_late_copy(call: Work) -> None:
    contextvars.copy_context().run(call)


WAYS = [
    in_thread,
    in_subclass,
    in_timer,
    in_pool,
    in_map,
    in_task,
    in_executor,
    in_to_thread,
    in_anyio,
    from_anyio_thread,
    in_generator,
    in_async_generator,
    in_late_copy,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_span_and_bound_values_go_along_and_come_back(exported: Started, way: Callable[[Work], None]) -> None:
    """What runs elsewhere is a child with the request's values; what it binds and unbinds holds for the request."""
    with otelkit.span("request") as entry:
        token, holder = correlation.open_holder({"request.id": "r"})
        holder.entry_span = entry
        otelkit.bind(tenant="acme", gone="x")
        way(work)
        with otelkit.span("after"):
            pass
        correlation.close_holder(token)
    with otelkit.span("outside"):
        pass
    spans = exported.spans()
    assert set(spans) == {"request", "work", "after", "outside"}
    assert spans["work"].parent_id == spans["request"].span_id
    assert spans["work"].trace_id == spans["request"].trace_id
    bound = {"request.id": "r", "tenant": "acme"}
    assert spans["work"].attributes == {**bound, "gone": "x"}
    assert spans["after"].attributes == {**bound, "found": 3}
    assert spans["request"].attributes["found"] == 3
    assert spans["outside"].attributes == {}
    assert spans["outside"].parent_id == ""
    (log,) = exported.logs()
    assert log.record.span_id.hex() == spans["work"].span_id
    assert log.attributes == {**bound, "gone": "x"}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_not_to_be_recorded_is_not_there_either(exported: Started, way: Callable[[Work], None]) -> None:
    """As below an excluded URL."""
    with silence():
        way(work)
    with otelkit.span("after"):
        pass
    assert set(exported.spans()) == {"after"}


def test_a_context_copied_before_the_bind_sees_it_within_a_request(exported: Started) -> None:
    """And outside of one does not: there each context has its own."""

    def outside() -> None:
        early = contextvars.copy_context()
        otelkit.bind(tenant="main")
        early.run(otelkit.event, "outside")

    def inside() -> None:
        correlation.open_holder({})
        early = contextvars.copy_context()
        otelkit.bind(tenant="acme")
        early.run(otelkit.event, "inside")
        otelkit.unbind("tenant")
        early.run(otelkit.event, "unbound")

    contextvars.Context().run(outside)
    contextvars.Context().run(inside)
    found = {log.record.event_name: log.attributes for log in exported.logs()}
    assert found == {"outside": {}, "inside": {"tenant": "acme"}, "unbound": {}}


def test_work_outside_of_a_request_shares_nothing_with_its_like(exported: Started) -> None:
    """Pieces of work that are bound to different values at the same time begin with the script's and keep their own."""
    otelkit.bind(job="nightly")
    met = threading.Barrier(2, timeout=10)

    def piece(number: int) -> None:
        otelkit.bind(piece=number)
        met.wait()
        otelkit.event("piece", number=number)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(piece, range(2)))
    otelkit.event("all")
    found = {log.attributes.get("number"): log.attributes for log in exported.logs()}
    assert found[0] == {"job": "nightly", "piece": 0, "number": 0}
    assert found[1] == {"job": "nightly", "piece": 1, "number": 1}
    assert found[None] == {"job": "nightly"}


def test_threads_of_libraries_and_of_pools_are_in_no_request(exported: Started) -> None:
    """They live on: everything that they record later would be in the first request's trace."""
    import logging.handlers
    import queue

    with otelkit.span("request"), ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        found: queue.SimpleQueue[trace.Span] = queue.SimpleQueue()
        source: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()

        class Listener(logging.handlers.QueueListener):
            def handle(self, record: logging.LogRecord) -> None:
                found.put(trace.get_current_span())

        listener = Listener(source)
        listener.start()
        source.put(logging.makeLogRecord({}))
        assert found.get(timeout=10) is trace.INVALID_SPAN
        listener.stop()


def test_a_thread_keeps_its_errors_and_its_own_run(exported: Started) -> None:
    """To start it twice raises what it raises, `run` is the class's again, results and errors are the function's."""
    with otelkit.span("request"):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        assert "run" not in vars(thread)
        with pytest.raises(RuntimeError, match="only be started once"):
            thread.start()
        assert "run" not in vars(thread)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(max, [1, 2], key=lambda number: -number).result() == 1
            with pytest.raises(ValueError, match="invalid literal"):
                pool.submit(int, "x").result()


def test_nothing_is_left_after_the_end(tmp_path: Path) -> None:
    """The methods are the library's own again; with OTELKIT_INSTRUMENT_THREADING=off they always were."""

    def methods() -> list[object]:
        return [
            threading.Thread.start,
            ThreadPoolExecutor.submit,
            ProcessPoolExecutor.submit,
            multiprocessing.Process.start,
        ]

    before = methods()
    with started(tmp_path, instrument={"threading": "otelkit"}):
        assert not [now for now, earlier in zip(methods(), before, strict=True) if now is earlier]
    assert methods() == before
    with started(tmp_path, instrument={"threading": "off"}):
        assert methods() == before


PIECES = """
import otelkit
otelkit.bootstrap("pool")

def work(number):
    with otelkit.span(f"work {number}"):
        otelkit.event("worked")
    otelkit.bind(leaked=number)
    return number
"""
PROCESSES = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import otelkit
from otelkit.signals.suppression import silence
from pieces import work

with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("METHOD")) as pool:
    with silence():
        pool.submit(work, 0).result()
    with otelkit.span("first"), otelkit.bind(tenant="acme"):
        pool.submit(work, 1).result()
    pool.submit(work, 2).result()
    with otelkit.span("third"):
        assert list(pool.map(work, [3])) == [3]
"""


METHODS = pytest.mark.parametrize("method", ["fork", "spawn", *slow("forkserver")])


@METHODS
def test_a_process_pool_runs_each_piece_in_its_submitters_trace(sink: Sink, tmp_path: Path, method: str) -> None:
    """Also the piece that was submitted outside of any trace; and though the worker was forked below an excluded URL,
    only the piece of that is not recorded.
    """
    (tmp_path / "pieces.py").write_text(PIECES)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_SHUTDOWN_TIMEOUT_S": "10"}
    run_python(PROCESSES.replace("METHOD", method), cwd=tmp_path, environ=environ)
    spans = {span.name: span for span in sink.spans}
    assert len(sink.spans) == 5, sorted(spans)
    assert spans["work 1"].parent_id == spans["first"].span_id
    assert spans["work 1"].attributes == {"tenant": "acme"}
    assert spans["work 2"].parent_id == ""
    assert spans["work 2"].attributes == {}
    assert spans["work 3"].parent_id == spans["third"].span_id
    logs = [log for log in sink.logs if log.record.event_name == "worked"]
    told = {log.record.span_id.hex() for log in logs}
    assert len(told) == 4  # the first piece's log record is exported, its span is not
    assert told > {spans[f"work {each}"].span_id for each in (1, 2, 3)}


STARTED = """
import multiprocessing
import otelkit
from otelkit.signals.suppression import silence
from pieces import Mine, work

otelkit.bootstrap("processes")
context = multiprocessing.get_context("METHOD")

def wait(process):
    process.start()
    assert "run" not in vars(process)
    process.join()
    assert process.exitcode == 0

with otelkit.span("first"), otelkit.bind(tenant="acme"):
    wait(context.Process(target=work, args=(1,)))
wait(context.Process(target=work, args=(2,)))
multiprocessing.set_start_method("METHOD", force=True)
with otelkit.span("third"):
    wait(Mine(3))
    with context.Pool(1) as pool:
        pool.apply(work, (4,))
        pool.close()
        pool.join()
with silence():
    wait(context.Process(target=work, args=(5,)))
    wait(Mine(6))
    with context.Pool(1) as pool:
        pool.apply(work, (7,))
        pool.close()
        pool.join()
    work(8)
"""
MINE = """
import multiprocessing

class Mine(multiprocessing.Process):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def run(self):
        work(self.number)
"""


@pytest.mark.slow
@METHODS
def test_a_process_runs_in_its_starters_trace(sink: Sink, tmp_path: Path, method: str) -> None:
    """By its target and by its own `run`; a spawned pool's workers live on, and are part of no trace. What is started
    below an excluded URL may live on as well: it is no part of what is not recorded.
    """
    (tmp_path / "pieces.py").write_text(PIECES.replace('"pool"', '"processes"') + MINE)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTELKIT_SHUTDOWN_TIMEOUT_S": "10"}
    run_python(STARTED.replace("METHOD", method), cwd=tmp_path, environ=environ)
    spans = {span.name: span for span in sink.spans}
    assert set(spans) == {"first", "third", *(f"work {number}" for number in range(1, 8))}
    assert spans["work 1"].parent_id == spans["first"].span_id
    assert spans["work 1"].attributes == {"tenant": "acme"}
    assert (spans["work 2"].parent_id, spans["work 2"].attributes) == ("", {})
    assert spans["work 3"].parent_id == spans["third"].span_id
    assert spans["work 4"].parent_id == (spans["third"].span_id if method == "fork" else "")
    assert {spans[f"work {number}"].parent_id for number in (5, 6, 7)} == {""}


# -- baggage


def outgoing() -> dict[str, str]:
    """The headers of a request to somebody else."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    carrier.pop("traceparent", None)
    return carrier


@pytest.mark.parametrize(
    ("lists", "bound", "sent"),
    [
        ({}, {}, {"baggage": "tenant=acme,secret=x"}),
        ({"baggage_in": "tenant"}, {"tenant": "acme"}, {"baggage": "tenant=acme"}),
        ({"baggage_in": "user_id"}, {}, {}),
        ({"baggage_out": "plan,tenant"}, {}, {"baggage": "plan=pro,tenant=acme"}),
        ({"baggage_out": "user_id"}, {}, {"baggage": "user.id=7"}),
        ({"baggage_in": "tenant", "baggage_out": "plan"}, {"tenant": "acme"}, {"baggage": "plan=pro"}),
        ({"baggage_in": "tenant", "propagators": "tracecontext"}, {}, {}),
    ],
)
def test_baggage_comes_in_and_goes_out_by_list(
    tmp_path: Path, lists: dict[str, Any], bound: dict[str, str], sent: dict[str, str]
) -> None:
    """Unset lists are OpenTelemetry's behaviour; what is bound goes nowhere unless it is listed."""
    with started(tmp_path, **lists) as exported:
        token, _ = correlation.open_holder({})
        base = propagate.extract({"baggage": "tenant=acme,secret=x"})
        attached = context.attach(base)
        with otelkit.span("request"):
            otelkit.bind(plan="pro", user_id=7)
            with otelkit.span("call"):
                assert outgoing() == sent
        context.detach(attached)
        correlation.close_holder(token)
        assert exported.spans()["call"].attributes == {**bound, "plan": "pro", "user.id": 7}


def test_incoming_baggage_leaves_what_the_application_put_there(tmp_path: Path) -> None:
    """The list is about what comes from outside; outside of a request nothing is bound; a long value is cut."""
    with started(tmp_path, baggage_in="tenant") as exported:
        mine = baggage.set_baggage("mine", "kept")
        found = propagate.extract({"baggage": f"tenant={'x' * 300},other=y"}, mine)
        assert set(baggage.get_all(found)) == {"mine", "tenant"}
        otelkit.event("outside")
        token, _ = correlation.open_holder({})
        propagate.extract({"baggage": f"tenant={'x' * 300}"})
        otelkit.event("inside")
        correlation.close_holder(token)
        outside, inside = exported.logs()
        assert outside.attributes == {}
        assert inside.attributes == {"tenant": "x" * 256}
