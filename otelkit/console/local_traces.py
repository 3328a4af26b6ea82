"""Gathers what one process records of each trace, from its local root down, and says when a part of it is complete.

A local root is a span without a parent in this process. What ends or begins after its root was handed out comes later
as a continuation. Not thread-safe: one thread feeds it. Times of spans are nanoseconds since the epoch, `now` is a
monotonic clock in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan

_REMEMBERED_ROOTS = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what is held, and how long a complete trace waits for its stragglers, in seconds.

    `settle_s` is the pause after the last event of a complete trace, `settle_late_s` that of a continuation (it
    gathers the many small spans of a background task), `linger_s` how long open spans under an ended root are waited
    for, `max_age_s` when a trace whose root does not end is handed out as far as it is.
    """

    max_traces: int = 256
    max_spans: int = 1000
    max_logs: int = 1000
    max_age_s: float = 60.0
    settle_s: float = 0.05
    settle_late_s: float = 0.25
    linger_s: float = 0.5


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A log record inside a span."""

    time_ns: int
    severity: int
    level: str
    message: str
    logger: str
    attributes: Mapping[str, object]
    event: bool = False


class Node:
    """A span with what lies under it; `span` is live until it has ended."""

    __slots__ = ("children", "logs", "parent", "span")

    def __init__(self, span: ReadableSpan, parent: Node | None = None) -> None:
        self.span = span
        self.parent = parent
        self.children: list[Node] = []
        self.logs: list[LogEntry] = []

    @property
    def open(self) -> bool:
        """Whether the span has not ended."""
        return self.span.end_time is None

    @property
    def span_id(self) -> int:
        """The span's id."""
        return self.span.context.span_id if self.span.context is not None else 0


@dataclass(slots=True, eq=False)
class LocalTrace:
    """A part of a trace in this process: its roots and what was cut; `continues` names the root that came before."""

    trace_id: int
    began: float
    continues: str | None = None
    roots: list[Node] = field(default_factory=list)
    nodes: dict[int, Node] = field(default_factory=dict)
    loose_logs: list[LogEntry] = field(default_factory=list)
    logs: int = 0
    cut_spans: int = 0
    cut_logs: int = 0
    touched: float = 0.0
    complete_since: float | None = None
    news: int = 0

    @property
    def name(self) -> str:
        """The name of the first root, or of the one that this part continues."""
        return self.roots[0].span.name if self.roots else self.continues or ""

    @property
    def complete(self) -> bool:
        """Whether all its spans have ended."""
        return self.complete_since is not None and not any(node.open for node in self.nodes.values())

    def due(self, limits: Limits) -> float:
        """When it is to be handed out."""
        if self.complete_since is None:
            return self.began + limits.max_age_s
        latest = self.complete_since + limits.linger_s
        if not self.complete:
            return latest
        return min(latest, self.touched + (limits.settle_late_s if self.continues else limits.settle_s))


def log_entry(record: ReadWriteLogRecord) -> LogEntry:
    """What the console shows of a log record."""
    data = record.log_record
    severity = data.severity_number
    scope = record.instrumentation_scope
    return LogEntry(
        data.timestamp or data.observed_timestamp or 0,
        severity.value if severity is not None else 0,
        data.severity_text or (severity.name if severity is not None else ""),
        str(data.body) if data.body is not None else data.event_name or "",
        scope.name if scope is not None else "",
        data.attributes or {},
        bool(data.event_name),
    )


class LocalTraces:
    """The traces in progress. `evicted` counts those given up because too many were in progress at once."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._index: dict[tuple[int, int], LocalTrace] = {}
        self._parts: dict[LocalTrace, None] = {}
        self._by_trace: dict[int, LocalTrace] = {}
        self._shown: OrderedDict[int, str] = OrderedDict()
        self._ready: list[LocalTrace] = []
        self.evicted = 0

    def started(self, span: ReadableSpan, now: float) -> None:
        """A span began in this process."""
        context, parent = span.context, span.parent
        if context is None:
            return
        part = self._index.get((context.trace_id, parent.span_id)) if parent is not None else None
        if part is None:
            part = self._part_for(context.trace_id, parent is not None and not parent.is_remote, now)
        if len(part.nodes) >= self._limits.max_spans:
            part.cut_spans += 1
            return
        above = part.nodes.get(parent.span_id) if parent is not None else None
        node = Node(span, above)
        (above.children if above is not None else part.roots).append(node)
        part.nodes[context.span_id] = node
        part.touched = now
        part.complete_since = None if above is None else part.complete_since
        self._index[(context.trace_id, context.span_id)] = part

    def ended(self, span: ReadableSpan, now: float) -> None:
        """A span ended; one that is not known (cut, evicted, begun before this was here) is ignored."""
        context = span.context
        part = self._index.get((context.trace_id, context.span_id)) if context is not None else None
        if part is None or context is None:
            return
        part.nodes[context.span_id].span = span
        part.touched = now
        part.news += 1
        if part.complete_since is None and not any(root.open for root in part.roots):
            part.complete_since = now

    def logged(self, record: ReadWriteLogRecord, now: float) -> None:
        """A log record was emitted; it counts where its span is known, or its trace was shown."""
        data = record.log_record
        trace_id, span_id = data.trace_id or 0, data.span_id or 0
        if not trace_id:
            return
        part = self._index.get((trace_id, span_id))
        if part is None:
            if trace_id not in self._shown and trace_id not in self._by_trace:
                return
            part = self._part_for(trace_id, True, now)
            if part.complete_since is None and not part.roots:
                part.complete_since = now
        if part.logs >= self._limits.max_logs:
            part.cut_logs += 1
            return
        node = part.nodes.get(span_id)
        (node.logs if node is not None else part.loose_logs).append(log_entry(record))
        part.logs += 1
        part.news += 1
        part.touched = now

    def next_due(self) -> float | None:
        """When `take_due` has something next; None while nothing is in progress."""
        if self._ready:
            return 0.0
        return min((part.due(self._limits) for part in self._parts), default=None)

    def take_due(self, now: float) -> Iterator[LocalTrace]:
        """The parts that are complete or too old; open spans of theirs go on in a continuation."""
        yield from self._taken_early()
        for part in [part for part in self._parts if part.due(self._limits) <= now]:
            if not part.news:
                part.began = now
            elif part in self._parts:  # the continuation of another may have evicted it
                yield self._take(part)
                self._continue(part, now)

    def take_complete(self) -> Iterator[LocalTrace]:
        """The parts whose spans have all ended, without waiting for stragglers."""
        yield from self._taken_early()
        for part in [part for part in self._parts if part.complete]:
            yield self._take(part)

    def take_all(self) -> Iterator[LocalTrace]:
        """Everything, complete or not, at the end."""
        yield from self._taken_early()
        for part in list(self._parts):
            yield self._take(part)

    def _taken_early(self) -> list[LocalTrace]:
        ready, self._ready = self._ready, []
        return ready

    def _part_for(self, trace_id: int, parent_is_local: bool, now: float) -> LocalTrace:
        """The part that a span or record without a known parent belongs to."""
        if parent_is_local and trace_id in self._by_trace:
            return self._by_trace[trace_id]
        continues = self._shown.get(trace_id) if parent_is_local else None
        return self._add(LocalTrace(trace_id, now, continues, touched=now))

    def _add(self, part: LocalTrace) -> LocalTrace:
        if len(self._parts) >= self._limits.max_traces:
            complete = next((part for part in self._parts if part.complete), None)
            if complete is not None:  # it only waits for stragglers
                self._ready.append(self._take(complete))
            else:
                self._forget(next(iter(self._parts)))
                self.evicted += 1
        self._parts[part] = None
        self._by_trace[part.trace_id] = part
        return part

    def _forget(self, part: LocalTrace) -> None:
        del self._parts[part]
        if self._by_trace.get(part.trace_id) is part:
            del self._by_trace[part.trace_id]
        for span_id in part.nodes:
            self._index.pop((part.trace_id, span_id), None)

    def _take(self, part: LocalTrace) -> LocalTrace:
        self._forget(part)
        self._shown[part.trace_id] = part.continues or part.name
        self._shown.move_to_end(part.trace_id)
        while len(self._shown) > _REMEMBERED_ROOTS:
            self._shown.popitem(last=False)
        return part

    def _continue(self, part: LocalTrace, now: float) -> None:
        """Goes on with the open spans alone, each under its nearest open ancestor."""
        running = [node for node in part.nodes.values() if node.open]
        if not running:
            return
        rest = self._add(LocalTrace(part.trace_id, now, part.continues or part.name, touched=now))
        for node in running:
            above = node.parent
            while above is not None and not above.open:
                above = above.parent
            parent = rest.nodes.get(above.span_id) if above is not None else None
            copy = rest.nodes[node.span_id] = Node(node.span, parent)
            (parent.children if parent is not None else rest.roots).append(copy)
            self._index[(part.trace_id, node.span_id)] = rest


def gather(spans: Iterable[ReadableSpan], records: Iterable[ReadWriteLogRecord] = ()) -> list[LocalTrace]:
    """The traces of spans that are given all at once, in the order of their roots' start."""
    traces = LocalTraces(Limits(max_traces=100_000, max_spans=100_000, max_logs=100_000))
    ordered = sorted(spans, key=lambda span: span.start_time or 0)
    for span in _parents_first(ordered):
        traces.started(span, 0.0)
    for record in records:
        traces.logged(record, 0.0)
    return list(traces.take_all())


def _parents_first(spans: list[ReadableSpan]) -> Iterator[ReadableSpan]:
    """Equal or skewed start times must not put a child before its parent."""
    waiting = {span.context.span_id: span for span in spans if span.context is not None}
    for span in spans:
        chain = []
        step: ReadableSpan | None = span
        while step is not None and step.context is not None and step.context.span_id in waiting:
            chain.append(waiting.pop(step.context.span_id))
            step = waiting.get(step.parent.span_id) if step.parent is not None else None
        yield from reversed(chain)
