"""From queue to next hop: nothing is lost unaccounted, nothing waits longer than it was told to."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelkit.delivery.ledger import DropReason, read_page
from otelkit.delivery.pipeline import Pipeline
from otelkit.delivery.queue import QueueLimits
from tests.support.records import RESOURCE, ALog, a_pipeline, a_span, balance
from tests.support.server import free_port
from tests.support.sink import Answer, Sink


@pytest.fixture
def refused() -> str:
    """The address of a port that nobody listens on."""
    return f"http://127.0.0.1:{free_port()}"


@contextlib.contextmanager
def ended(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Ends the pipeline with the block, without waiting for the next hop."""
    try:
        yield pipeline
    finally:
        pipeline.shutdown(0.0)


def received(sink: Sink) -> list[int]:
    """The numbers of the spans that arrived."""
    return sorted(span.attributes["n"] for span in sink.spans)


def join_threads() -> None:
    """Waits until otelkit's threads have ended, and so have said what they had to say."""
    for thread in threading.enumerate():
        if thread.name.startswith("otelkit"):
            thread.join(5)


def otelkit_threads() -> set[str]:
    """The names of the living threads that are otelkit's."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("otelkit")}


def a_collection(points: int) -> MetricsData:
    """One collection of so many points."""
    made = [NumberDataPoint({"n": number}, 1, 2, number) for number in range(points)]
    metric = Metric("m", "", "", Sum(made, AggregationTemporality.CUMULATIVE, True))
    scoped = ScopeMetrics(InstrumentationScope("s"), [metric], "")
    return MetricsData([ResourceMetrics(Resource.get_empty(), [scoped], "")])


def test_a_flush_delivers_everything_that_was_accepted_before_it(tmp_path: Path, sink: Sink) -> None:
    """Over all signals, each record once, with a report that says so."""
    with ended(a_pipeline(sink.url, tmp_path)) as pipeline:
        for number in range(1500):
            pipeline.spans.put(a_span(number))
        pipeline.metrics(a_collection(7), RESOURCE)
        report = pipeline.flush(10)
        assert (report.ok, report.delivered, report.in_memory, report.dropped) == (True, 1507, 0, {})
        assert received(sink) == list(range(1500))
        assert len(sink.metrics[0].points) == 7
        assert balance(pipeline) == (1507, 1507)


def test_no_thread_and_no_file_exists_before_the_first_record(tmp_path: Path, sink: Sink) -> None:
    """Two daemon threads with otelkit's names afterwards, and none after the end."""
    state = tmp_path / "state"
    pipeline = a_pipeline(sink.url, state)
    assert otelkit_threads() == set()
    assert not state.exists()
    pipeline.spans.put(a_span(0))
    assert otelkit_threads() == {"otelkit-worker", "otelkit-sender"}
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("otelkit"))
    assert len(list(state.iterdir())) == 1
    assert pipeline.shutdown(5).ok
    join_threads()
    assert otelkit_threads() == set()
    assert list(state.iterdir()) == []


def test_an_unarmed_pipeline_only_queues(tmp_path: Path, sink: Sink) -> None:
    """`application starting` starts no thread; the next record takes it along; its count is in the page."""
    pipeline = a_pipeline(sink.url, tmp_path)
    pipeline._armed = False
    pipeline.spans.put(a_span(0))
    assert otelkit_threads() == set()
    pipeline.arm()
    pipeline.spans.put(a_span(1))
    with ended(pipeline):
        assert pipeline.ledger.path is not None
        assert read_page(pipeline.ledger.path).accounts["traces"].accepted == 2
        assert pipeline.flush(10).ok
        assert received(sink) == [0, 1]


def test_a_process_that_emitted_nothing_ends_without_a_request(tmp_path: Path, sink: Sink) -> None:
    """And at once."""
    pipeline = a_pipeline(sink.url, tmp_path)
    assert pipeline.shutdown(5).ok
    assert sink.requests == []
    assert otelkit_threads() == set()


def test_a_full_batch_is_sent_without_waiting_and_a_part_after_the_delay(tmp_path: Path, sink: Sink) -> None:
    """Nobody flushes here."""
    with ended(a_pipeline(sink.url, tmp_path, spans=QueueLimits(1000, 100, 0.2))) as pipeline:
        began = time.monotonic()
        for number in range(150):
            pipeline.spans.put(a_span(number))
        sink.wait_for(lambda: len(sink.spans) == 150, "150 spans")
        assert time.monotonic() - began < 5
    with ended(a_pipeline(sink.url, tmp_path, spans=QueueLimits(1000, 100, 600.0))) as pipeline:
        for number in range(1000, 1100):
            pipeline.spans.put(a_span(number))
        sink.wait_for(lambda: len(sink.spans) == 250, "the full batch")


class Source:
    """An owner of metrics that notes who calls it."""

    def __init__(self, pipeline: Pipeline, *, fails: bool = False) -> None:
        self.calls: list[tuple[str, str]] = []
        self._pipeline = pipeline
        self._fails = fails
        self._left = False

    def _collect(self, what: str) -> None:
        self.calls.append((what, threading.current_thread().name))
        if self._fails:
            raise RuntimeError("a reader's fault")
        self._pipeline.metrics(a_collection(1), RESOURCE)

    def tick(self) -> float:
        if not self._left:  # the worker may ask once more
            self._collect("tick")
        return 0.1

    def flush(self) -> int:
        self._collect("flush")
        return 0

    def leave(self) -> None:
        self._left = True
        self._collect("leave")

    def acknowledged(self, request: int, deadline: float) -> bool:
        return True

    def abandon(self) -> None:
        """No child asks."""


def test_metrics_are_collected_when_they_are_due_at_a_flush_and_at_the_end(tmp_path: Path, sink: Sink) -> None:
    """By the worker, which asks again when it was told to."""
    pipeline = a_pipeline(sink.url, tmp_path)
    source = pipeline.source = Source(pipeline)
    pipeline.spans.put(a_span(0))
    sink.wait_for(lambda: len(sink.metrics) >= 3, "three collections")
    assert set(source.calls) == {("tick", "otelkit-worker")}
    assert pipeline.flush(10).ok
    assert ("flush", "otelkit-worker") in source.calls
    assert pipeline.shutdown(10).ok
    assert source.calls[-1] == ("leave", "otelkit-worker")
    assert len(sink.metrics) == len(source.calls)


def test_a_collection_that_fails_costs_neither_the_spans_nor_the_next_one(tmp_path: Path, sink: Sink) -> None:
    """The worker lives on."""
    with ended(a_pipeline(sink.url, tmp_path)) as pipeline:
        pipeline.source = Source(pipeline, fails=True)
        for number in range(2):
            pipeline.spans.put(a_span(number))
            assert pipeline.flush(10).ok
        assert received(sink) == [0, 1]


def test_records_that_come_faster_than_they_go_keep_nothing_else_waiting(tmp_path: Path, sink: Sink) -> None:
    """The worker never finds the queue empty, and yet metrics are collected, logs sent and a flush comes back."""
    with ended(a_pipeline(sink.url, tmp_path, logs=QueueLimits(100, 10, 0.1))) as pipeline:
        source = pipeline.source = Source(pipeline)
        stop = threading.Event()
        span = a_span(1, **{f"k{place}": f"{place} of many" for place in range(100)})  # slow to encode

        def emit() -> None:
            while not stop.is_set():
                pipeline.spans.put(span)

        emitting = [threading.Thread(target=emit) for _ in range(2)]
        for thread in emitting:
            thread.start()
        try:
            pipeline.logs.put(ALog("one"))
            sink.wait_for(lambda: len(sink.logs) == 1 and len(sink.metrics) >= 3, "a log and three collections", 30)
            assert source.calls.count(("tick", "otelkit-worker")) >= 3
        finally:
            stop.set()
            for thread in emitting:
                thread.join()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that hand over as often as the interpreter lets them, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize(("status", "reason"), [(200, None), (400, "refused")])
def test_the_ledger_balances_at_the_very_moment_a_flush_returns(
    tmp_path: Path, sink: Sink, status: int, reason: str | None
) -> None:
    """Whoever is told that a batch is settled finds it counted; a refused one makes the flush a failure."""
    sink.answer = lambda path: Answer(status=status)
    with ended(a_pipeline(sink.url, tmp_path)) as pipeline:
        for number in range(1, 150):
            pipeline.spans.put(a_span(number))
            report = pipeline.flush(10)
            assert report.ok is (reason is None)
            assert report.delivered + sum(report.dropped.values()) == number
            assert report.in_memory == 0


def test_a_next_hop_that_never_answers_costs_the_end_its_budget_and_no_more(tmp_path: Path, sink: Sink) -> None:
    """What is left is counted as dropped by the shutdown, with one line that says how much."""
    sink.answer = lambda path: Answer(after_s=60)
    pipeline = a_pipeline(sink.url, tmp_path, timeout_s=30.0)
    for number in range(1500):
        pipeline.spans.put(a_span(number))
    began = time.monotonic()
    report = pipeline.shutdown(0.5)
    assert time.monotonic() - began < 0.8
    assert (report.ok, report.in_memory, report.dropped) == (False, 0, {"shutdown": 1500})
    assert balance(pipeline) == (1500, 1500)


def test_an_answer_after_the_end_changes_no_count(tmp_path: Path, sink: Sink) -> None:
    """The batch was given up; it is not counted twice."""
    pipeline = a_pipeline(sink.url, tmp_path)
    pipeline.spans.put(a_span(0))
    assert pipeline.flush(20).ok  # the threads are up: the next one is sent at once
    sink.answer = lambda path: Answer(after_s=2)
    pipeline.spans.put(a_span(1))
    pipeline.shutdown(0.5)
    sink.wait_for(lambda: len(sink.spans) == 2, "the late request")
    join_threads()
    account = pipeline.ledger.read().accounts["traces"]
    assert (account.accepted, account.delivered, account.dropped) == (2, 1, {DropReason.SHUTDOWN: 1})


def test_after_an_outage_everything_is_delivered_exactly_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One WARNING when it begins, one INFO when it is over; the order is kept."""
    caplog.set_level(logging.INFO, "otelkit")
    port = free_port()
    with ended(a_pipeline(f"http://127.0.0.1:{port}", tmp_path, spans=QueueLimits(5000, 100, 0.05))) as pipeline:
        for number in range(1000):
            pipeline.spans.put(a_span(number))
        assert not pipeline.flush(0.5).ok
        assert not pipeline.flush(0.2).ok
        with Sink(port) as sink:
            report = pipeline.flush(20)
            assert report.ok
            assert [span.attributes["n"] for span in sink.spans] == list(range(1000))
        assert balance(pipeline) == (1000, 1000)
    join_threads()
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "otelkit.delivery"]
    assert [level for level, _ in said] == ["WARNING", "INFO"], said
    assert "takes everything again" in said[1][1]


def test_a_restarting_next_hop_gets_every_record_once(tmp_path: Path, sink: Sink) -> None:
    """A good part of the requests fails; unique numbers received equal those accepted."""
    answers = iter([Answer(status=503, headers={"retry-after": "0"})] * 3 + [Answer()] * 3)
    sink.answer = lambda path: next(answers, Answer())
    with ended(a_pipeline(sink.url, tmp_path, spans=QueueLimits(5000, 100, 0.05))) as pipeline:
        for number in range(1000):
            pipeline.spans.put(a_span(number))
        assert pipeline.flush(20).ok
        assert received(sink) == list(range(1000))


def test_beyond_the_bound_on_bytes_the_oldest_batches_go_and_are_counted(tmp_path: Path, sink: Sink) -> None:
    """During an outage memory stays bounded; the newest records are those that arrive."""
    sink.answer = lambda path: Answer(status=503)
    with ended(a_pipeline(sink.url, tmp_path, max_pending_bytes=65536, spans=QueueLimits(5000, 100, 60.0))) as pipeline:
        for number in range(3000):
            pipeline.spans.put(a_span(number, text="x" * 100))
        assert not pipeline.flush(0.5).ok
        report = pipeline.flush(0.0)
        assert report.dropped["pending_full"] > 0
        accepted, outcomes = balance(pipeline)
        assert accepted == outcomes == 3000
        sink.answer = lambda path: Answer()
        pipeline.flush(20)
        arrived = received(sink)
        assert len(arrived) == 3000 - pipeline.flush(1).dropped["pending_full"]
        assert 2999 in arrived


def test_records_that_cannot_be_encoded_are_counted_and_the_others_arrive(tmp_path: Path, sink: Sink) -> None:
    """The flush is no success: something was lost."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with ended(a_pipeline(sink.url, tmp_path)) as pipeline:
        bad = a_span(1)
        bad.own["x"] = Broken()
        for span in (a_span(0), bad, a_span(2)):
            pipeline.spans.put(span)
        report = pipeline.flush(10)
        assert (report.ok, report.dropped, report.delivered) == (False, {"encode_failed": 1}, 2)
        assert received(sink) == [0, 2]
        pipeline.spans.put(a_span(3))
        assert pipeline.flush(10).ok


def test_a_batch_of_nothing_but_broken_records_sends_no_request(tmp_path: Path, sink: Sink) -> None:
    """And leaves the worker alive."""
    with ended(a_pipeline(sink.url, tmp_path)) as pipeline:
        pipeline.spans.put(object())  # type: ignore[arg-type]
        report = pipeline.flush(10)
        assert report.dropped == {"encode_failed": 1}
        assert sink.requests == []
        pipeline.spans.put(a_span(1))
        assert pipeline.flush(10).ok


@pytest.mark.parametrize("status", [400, 404])
def test_a_refusal_is_counted_once_and_not_repeated(tmp_path: Path, sink: Sink, status: int) -> None:
    """The next hop says that the same request would be answered alike."""
    asked = []

    def answer(path: str) -> Answer:
        asked.append(path)
        return Answer(status=status)

    sink.answer = answer
    with ended(a_pipeline(sink.url, tmp_path)) as pipeline:
        for number in range(10):
            pipeline.spans.put(a_span(number))
        report = pipeline.flush(10)
        assert (report.ok, report.dropped, report.delivered) == (False, {"refused": 10}, 0)
        assert len(asked) == 1


def test_records_after_the_end_are_counted_and_start_nothing(tmp_path: Path, sink: Sink) -> None:
    """Spans, collections and flushes after shutdown return at once."""
    pipeline = a_pipeline(sink.url, tmp_path)
    pipeline.spans.put(a_span(0))
    assert pipeline.shutdown(5).ok
    for number in range(3):
        pipeline.spans.put(a_span(number))
    pipeline.metrics(a_collection(2), RESOURCE)
    began = time.monotonic()
    report = pipeline.flush(5)
    assert time.monotonic() - began < 1
    assert report.dropped == {"after_shutdown": 5}
    assert balance(pipeline) == (6, 6)
    again = pipeline.shutdown(5)
    assert again.dropped == {"after_shutdown": 5}
    assert received(sink) == [0]


@pytest.mark.slow
def test_an_end_without_time_counts_everything(tmp_path: Path, sink: Sink) -> None:
    """A budget of nothing still leaves an exact ledger, with the worker in the middle of its work."""
    for _ in range(5):
        pipeline = a_pipeline(sink.url, tmp_path, spans=QueueLimits(1 << 20, 512, 60.0))
        for number in range(20_000):
            pipeline.spans.put(a_span(number % 100))
        report = pipeline.shutdown(0.0)
        join_threads()
        accepted, outcomes = balance(pipeline)
        assert accepted == outcomes == 20_000
        assert report.ok == (not report.dropped), "the sender may have been fast enough"


def test_an_end_by_two_threads_at_once_counts_nothing_twice(tmp_path: Path, refused: str) -> None:
    """A signal handler's thread and atexit may both be at it."""
    pipeline = a_pipeline(refused, tmp_path)
    for number in range(1000):
        pipeline.spans.put(a_span(number))
    threads = [threading.Thread(target=pipeline.shutdown, args=(0.2,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert balance(pipeline) == (1000, 1000)
    assert pipeline.ledger.read().accounts["traces"].dropped == {DropReason.SHUTDOWN: 1000}


def test_a_flush_and_an_end_without_a_limit_return_when_everything_is_delivered(tmp_path: Path, sink: Sink) -> None:
    """`flush(float("inf"))` is a way to say `as long as it takes`."""
    pipeline = a_pipeline(sink.url, tmp_path)
    pipeline.spans.put(a_span(0))
    assert pipeline.flush(float("inf")).ok
    pipeline.spans.put(a_span(1))
    assert pipeline.shutdown(float("inf")).ok


def test_flushes_of_many_threads_all_return(tmp_path: Path, sink: Sink) -> None:
    """Each finds its own records delivered."""
    with ended(a_pipeline(sink.url, tmp_path)) as pipeline:
        results: list[bool] = []

        def work(first: int) -> None:
            for number in range(20):
                pipeline.spans.put(a_span(first + number))
                results.append(pipeline.flush(20).ok)

        threads = [threading.Thread(target=work, args=(place * 100,)) for place in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 100
        assert len(received(sink)) == 100


def test_compressed_batches_arrive(tmp_path: Path, sink: Sink) -> None:
    """gzip, by setting."""
    with ended(a_pipeline(sink.url, tmp_path, compression="gzip")) as pipeline:
        for number in range(100):
            pipeline.spans.put(a_span(number))
        assert pipeline.flush(10).ok
        assert received(sink) == list(range(100))
        ((_, headers, _),) = sink.requests
        assert headers["content-encoding"] == "gzip"


@pytest.mark.slow
def test_long_requests_are_divided(tmp_path: Path, sink: Sink) -> None:
    """Below what servers take, before compression; a collection is delivered when all of it is."""
    delivered: list[int] = []

    def note() -> None:
        delivered.append(len(sink.metrics))

    with ended(a_pipeline(sink.url, tmp_path)) as pipeline:
        for number in range(150):
            pipeline.spans.put(a_span(number, text="x" * 60_000))
        pipeline.metrics(a_collection(120_000), RESOURCE, note)
        report = pipeline.flush(20)
        assert (report.ok, report.delivered) == (True, 120_150)
        assert received(sink) == list(range(150))
        numbers = [point.as_int for metric in sink.metrics for point in metric.points]
        assert sorted(numbers) == list(range(120_000))
        assert delivered == [len(sink.metrics)]
        sent = Counter(path for path, _, _ in sink.requests)
        assert sent["/v1/traces"] > 1 < sent["/v1/metrics"]
        assert max(length for _, _, length in sink.requests) <= 4_000_000


def test_configured_headers_are_sent(tmp_path: Path, sink: Sink) -> None:
    """The way to authenticate."""
    with ended(a_pipeline(sink.url, tmp_path, headers={"authorization": "Bearer t", "x-scope-orgid": "7"})) as pipeline:
        pipeline.spans.put(a_span(0))
        assert pipeline.flush(10).ok
        ((_, headers, _),) = sink.requests
        assert (headers["authorization"], headers["x-scope-orgid"]) == ("Bearer t", "7")
        assert headers["content-type"] == "application/x-protobuf"
        assert "otelkit" in headers["user-agent"].lower()


def test_no_secret_of_the_address_or_the_headers_is_ever_logged(
    tmp_path: Path, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the next hop answers, and when nobody answers at all."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "otelkit")
    secret = "c4n4ry"
    for status in (503, 401, 413):
        sink.answer = lambda path, status=status: Answer(status=status)  # type: ignore[misc]
        url = f"http://user:{secret}@127.0.0.1:{sink.port}"
        pipeline = a_pipeline(url, tmp_path, headers={"authorization": secret, "x-api-key": secret})
        pipeline.spans.put(a_span(0))
        pipeline.flush(2)
        pipeline.shutdown(0.1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        pipeline = a_pipeline(f"http://user:{secret}@127.0.0.1:{closed.getsockname()[1]}/{'?key=' + secret}", tmp_path)
        pipeline.spans.put(a_span(0))
        pipeline.flush(0.5)
        pipeline.shutdown(0.0)
    own = [record.getMessage() for record in caplog.records if record.name.startswith("otelkit")]
    assert len(own) >= 4
    assert not [text for text in own if secret in text]


def test_a_process_that_was_killed_is_reported_by_the_next_one(
    tmp_path: Path, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """With the exact number of records that nobody got."""
    from tests.support.process import kill_session, start_python

    state = tmp_path / "state"
    process = start_python(
        f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {os.getcwd()!r})
        from tests.support.records import a_pipeline, a_span
        pipeline = a_pipeline("http://127.0.0.1:9", Path({str(state)!r}))
        for number in range(123):
            pipeline.spans.put(a_span(number))
        print("ready", flush=True)
        sys.stdin.read()
        """,
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    finally:
        kill_session(process)
    with caplog.at_level(logging.WARNING, "otelkit"), ended(a_pipeline(sink.url, state)) as pipeline:
        pipeline.spans.put(a_span(0))
        assert pipeline.flush(10).ok
    said = [record.getMessage() for record in caplog.records if "undelivered" in record.getMessage()]
    assert said == [f"process {process.pid} (test) ended with 123 records undelivered"]


def test_a_forked_child_that_abandons_sends_nothing_of_its_parent(tmp_path: Path, sink: Sink) -> None:
    """The parent's records arrive once, the child's late ones nowhere, and no call in the child hangs."""
    pipeline = a_pipeline(sink.url, tmp_path)
    for number in range(9):
        pipeline.spans.put(a_span(number))
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            pipeline.abandon()
            pipeline.spans.put(a_span(100))
            pipeline.shutdown(1.0)
            code = 0
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    with ended(pipeline):
        assert pipeline.flush(10).ok
        assert received(sink) == list(range(9))
        assert balance(pipeline) == (9, 9)


def test_one_hop_down_for_one_signal_is_one_warning(
    tmp_path: Path, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """Traces go on while metrics are refused for a while; hours of it are one line."""
    caplog.set_level(logging.INFO, "otelkit")
    failing = True
    sink.answer = lambda path: (
        Answer(status=503, headers={"retry-after": "0"}) if failing and "metrics" in path else Answer()
    )
    with ended(a_pipeline(sink.url, tmp_path)) as pipeline:
        pipeline.metrics(a_collection(1), RESOURCE)
        for number in range(5):
            pipeline.spans.put(a_span(number))
            pipeline.flush(0.2)
        sink.wait_for(lambda: len(sink.spans) == 5, "the spans beside failing metrics")
        failing = False
        assert pipeline.flush(20).ok
    join_threads()
    assert Counter(record.levelname for record in caplog.records) == {"WARNING": 1, "INFO": 1}


def test_a_gzip_body_is_what_its_header_says(tmp_path: Path) -> None:
    """A server that reads it by the book gets the protobuf message."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from otelkit.delivery.encode import Encoder

    body, _ = Encoder({"traces": {}, "logs": {}}).spans([a_span(1)])
    assert ExportTraceServiceRequest.FromString(gzip.decompress(gzip.compress(body, 1)))
