"""Which spans and log records belong together, when they are handed out, and what is cut, at a clock of the test's."""

from __future__ import annotations

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from otelkit.console.local_traces import Limits, LocalTrace, LocalTraces, gather


class Fixture:
    """Local traces that are fed by hand, with spans of the SDK's."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.traces = LocalTraces(limits)
        self.now = 0.0
        self._tracer = TracerProvider().get_tracer("test")
        self._emitted: list[ReadWriteLogRecord] = []
        provider = LoggerProvider()
        provider.add_log_record_processor(_Keep(self._emitted))
        self._logger = provider.get_logger("shop")

    def start(self, name: str, under: ReadableSpan | None = None, *, remote: bool = False) -> Span:
        """A span begins; `remote` puts its parent into another process."""
        context = None
        if under is not None:
            assert under.context is not None
            ids = SpanContext(under.context.trace_id, under.context.span_id, remote, TraceFlags(TraceFlags.SAMPLED))
            context = set_span_in_context(NonRecordingSpan(ids))
        span = self._tracer.start_span(name, context=context)
        assert isinstance(span, Span)
        self.traces.started(span, self.now)
        return span

    def end(self, *spans: Span) -> None:
        """Spans end, in this order."""
        for span in spans:
            span.end()
            self.traces.ended(span, self.now)

    def log(self, message: str, span: ReadableSpan) -> None:
        """A log record within a span."""
        assert span.context is not None
        context = set_span_in_context(NonRecordingSpan(span.context))
        self._logger.emit(LogRecord(body=message, severity_number=SeverityNumber.INFO, context=context))
        self.traces.logged(self._emitted[-1], self.now)

    def due(self, after_s: float) -> list[LocalTrace]:
        """What is handed out when so much time has passed."""
        self.now += after_s
        return list(self.traces.take_due(self.now))


class _Keep(LogRecordProcessor):
    def __init__(self, into: list[ReadWriteLogRecord]) -> None:
        self._into = into

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self._into.append(log_record)

    def shutdown(self) -> None:
        """Nothing to end."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


@pytest.fixture
def fed() -> Fixture:
    """With small limits."""
    return Fixture(
        Limits(max_traces=3, max_spans=4, max_logs=2, max_age_s=60, settle_s=0.05, settle_late_s=0.25, linger_s=0.5)
    )


def outline(trace: LocalTrace) -> dict[str, list[str]]:
    """The children's names by each span's."""
    return {node.span.name: [child.span.name for child in node.children] for node in trace.nodes.values()}


def test_a_trace_is_handed_out_once_its_root_has_ended(fed: Fixture) -> None:
    """Not before, not twice, and whole."""
    root = fed.start("root")
    child = fed.start("child", root)
    fed.log("hello", child)
    fed.end(child)
    assert fed.due(after_s=1) == []
    fed.end(root)
    (trace,) = fed.due(after_s=0.06)
    assert outline(trace) == {"root": ["child"], "child": []}
    assert [entry.message for entry in trace.roots[0].children[0].logs] == ["hello"]
    assert (trace.continues, trace.cut_spans, trace.cut_logs) == (None, 0, 0)
    assert fed.due(after_s=100) == []
    assert fed.traces.next_due() is None


def test_a_remote_parent_makes_a_local_root(fed: Fixture) -> None:
    """The parent of another process is no span of this one: both parts are handed out for themselves."""
    elsewhere = Fixture(fed.limits).start("elsewhere")
    root = fed.start("here", elsewhere, remote=True)
    fed.end(root)
    (trace,) = fed.due(after_s=0.06)
    assert outline(trace) == {"here": []}
    assert trace.continues is None


def test_a_call_to_itself_is_one_tree(fed: Fixture) -> None:
    """A remote parent that is open in this very process (a service that calls itself) is the parent."""
    client = fed.start("client")
    server = fed.start("server", client, remote=True)
    fed.end(server, client)
    (trace,) = fed.due(after_s=0.06)
    assert outline(trace) == {"client": ["server"], "server": []}


def test_stragglers_of_a_moment_still_belong_to_the_tree(fed: Fixture) -> None:
    """A background task that begins right after its request, and a child that ends right after its parent."""
    root = fed.start("root")
    slow = fed.start("slow", root)
    fed.end(root)
    assert fed.due(after_s=0.1) == []
    background = fed.start("background", root)
    fed.end(background, slow)
    (trace,) = fed.due(after_s=0.06)
    assert outline(trace) == {"root": ["slow", "background"], "slow": [], "background": []}
    assert not any(node.open for node in trace.nodes.values())


def test_what_ends_later_comes_as_a_continuation(fed: Fixture) -> None:
    """An open child does not hold its root back for long, and is not lost."""
    root = fed.start("root")
    background = fed.start("background", root)
    fed.end(root)
    (trace,) = fed.due(after_s=0.6)
    assert [node.span.name for node in trace.nodes.values() if node.open] == ["background"]
    inner = fed.start("inner", background)
    fed.end(inner, background)
    (later,) = fed.due(after_s=0.3)
    assert outline(later) == {"background": ["inner"], "inner": []}
    assert later.continues == "root"


def test_what_begins_later_gathers_in_one_continuation(fed: Fixture) -> None:
    """Many small spans under a root that was shown long ago make one tree, with their log records."""
    root = fed.start("root")
    fed.end(root)
    assert len(fed.due(after_s=0.06)) == 1
    for name in ("first", "second", "third"):
        fed.now += 0.1
        span = fed.start(name, root)
        fed.log(name, span)
        fed.end(span)
    fed.log("of the root itself", root)
    (later,) = fed.due(after_s=0.3)
    assert [node.span.name for node in later.roots] == ["first", "second", "third"]
    assert later.continues == "root"
    assert later.cut_logs == 2  # two are allowed here
    assert fed.due(after_s=100) == []


def test_a_root_that_does_not_end_is_shown_as_far_as_it_is(fed: Fixture) -> None:
    """After a minute its ended spans are handed out; with nothing new it stays silent; its end comes too."""
    root = fed.start("main")
    step = fed.start("step", root)
    fed.end(step)
    assert fed.due(after_s=59) == []
    (part,) = fed.due(after_s=2)
    assert outline(part) == {"main": ["step"], "step": []}
    assert part.roots[0].open
    assert fed.due(after_s=61) == []
    assert fed.due(after_s=61) == []
    fed.end(fed.start("another step", root), root)
    (rest,) = fed.due(after_s=0.3)
    assert outline(rest) == {"main": ["another step"], "another step": []}
    assert rest.continues == "main"


def test_spans_and_records_beyond_the_bounds_are_counted(fed: Fixture) -> None:
    """Four spans and two records are kept here, the rest is a number; a cut span's children count with it."""
    root = fed.start("root")
    spans = [fed.start(f"child {number}", root) for number in range(5)]
    grandchild = fed.start("grandchild", spans[-1])
    for number in range(5):
        fed.log(f"record {number}", root)
    fed.end(grandchild, *spans, root)
    (trace,) = fed.due(after_s=0.06)
    assert len(trace.nodes) == 4
    assert (trace.cut_spans, trace.cut_logs) == (3, 3)


def test_too_many_traces_at_once_evict_the_oldest(fed: Fixture) -> None:
    """Three are kept here; what is evicted is counted, and its spans' ends are ignored."""
    roots = [fed.start(f"root {number}") for number in range(5)]
    fed.end(*roots)
    assert [trace.name for trace in fed.due(after_s=1)] == ["root 2", "root 3", "root 4"]
    assert fed.traces.evicted == 2
    assert fed.traces.next_due() is None


def test_complete_traces_make_room_before_any_is_evicted(fed: Fixture) -> None:
    """More traces than are kept may end within the moment in which stragglers are waited for."""
    for number in range(7):
        fed.end(fed.start(f"root {number}"))
    assert fed.traces.next_due() == 0.0
    assert [trace.name for trace in fed.due(after_s=1)] == [f"root {number}" for number in range(7)]
    assert fed.traces.evicted == 0


def test_records_outside_of_known_traces_are_left_alone(fed: Fixture) -> None:
    """A span that was not sampled is not shown, nor are its log records."""
    unknown = Fixture(fed.limits).start("unsampled")
    fed.log("hello", unknown)
    assert fed.traces.next_due() is None


def test_at_the_end_everything_is_handed_out(fed: Fixture) -> None:
    """Open spans too."""
    root = fed.start("root")
    fed.start("child", root)
    (trace,) = list(fed.traces.take_all())
    assert outline(trace) == {"root": ["child"], "child": []}
    assert list(fed.traces.take_all()) == []


def test_a_hurry_takes_what_is_complete_and_leaves_what_is_not(fed: Fixture) -> None:
    """Without waiting for stragglers."""
    done, running = fed.start("done"), fed.start("running")
    fed.end(done)
    assert [trace.name for trace in fed.traces.take_complete()] == ["done"]
    fed.end(running)
    assert [trace.name for trace in fed.traces.take_complete()] == ["running"]


def test_spans_that_are_given_at_once_find_their_parents(fed: Fixture) -> None:
    """Whatever their order: a child that started at the very moment of its parent comes under it."""
    root = fed.start("root")
    child = fed.start("child", root)
    grandchild = fed.start("grandchild", child)
    other = fed.start("other")
    traces = gather([grandchild, child, other, root])
    assert sorted(map(sorted, map(outline, traces))) == [["child", "grandchild", "root"], ["other"]]
    assert outline(next(trace for trace in traces if trace.name == "root")) == {
        "root": ["child"],
        "child": ["grandchild"],
        "grandchild": [],
    }
