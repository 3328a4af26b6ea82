"""The span of the hot path: what the SDK's span does, at a fraction of its cost.

Its attributes lie in layers (layers.py); whatever is rare (events, links, a status) lies in `details`.

Spans below one local root share its clock: the wall clock's lead over the monotonic one (`clock`, nanoseconds) as the
root began. The wall clock may be set meanwhile, and two readings of it lie a thread switch apart: a span would last
minus an hour, or end after its parent. None where the caller said when the span began.

No locks: each step relies on CPython handing the interpreter over only at calls and backward jumps, so that a load
and a store next to each other are one step. A free-threaded build takes a lock for the one step that must not be
taken twice, the end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from otelkit.delivery.records import Shared
from otelkit.engine.attributes import Taken
from otelkit.engine.instrumentation_info import Informed
from otelkit.engine.layers import Layers, late
from otelkit.runtime import fork, guard
from otelkit.runtime.interpreter import FREE_THREADED
from otelkit.signals import exceptions

if TYPE_CHECKING:
    from otelkit.engine.tracing import Tracing

logger = logging.getLogger("otelkit.engine")

_UNSET = Status()


class _Ending:
    """The lock of the end, in a free-threaded build; a forked child has its own."""

    def __init__(self) -> None:
        self.renew()
        fork.on_child(self.renew)

    def renew(self) -> None:
        self.lock = threading.Lock()


_ending = _Ending() if FREE_THREADED else None


class Details:
    """What few spans have: events, links, a status that is not unset, and what `with span` shall not do."""

    __slots__ = ("events", "links", "record_exception", "set_status_on_exception", "status")

    def __init__(self, tracing: Tracing) -> None:
        self.events: BoundedList[Event] = BoundedList(tracing.limits.max_events)
        self.links: BoundedList[Link] = BoundedList(tracing.limits.max_links)
        self.status = _UNSET
        self.record_exception = self.set_status_on_exception = True

    @property
    def dropped_events(self) -> int:
        return self.events.dropped

    @property
    def dropped_links(self) -> int:
        return self.links.dropped


class _Ended(Informed, ReadableSpan):
    """What processors and exporters get."""


class Span(Layers, Informed, sdk.Span):
    """A span that is recorded; `Tracer.begin` makes it. Safe in threads as far as the SDK's is."""

    __slots__ = (
        "_above",
        "_context",
        "_open",
        "_tracing",
        "bound",
        "clock",
        "details",
        "end_time",
        "flags",
        "instrumentation_scope",
        "kind",
        "name",
        "otelkit_tallies",
        "own",
        "parent_id",
        "shared",
        "slot",
        "span_id",
        "start_time",
        "trace_id",
        "trace_state",
    )

    name: str
    kind: SpanKind
    trace_id: int
    span_id: int
    parent_id: int
    flags: int
    trace_state: TraceState | None
    start_time: int
    end_time: int | None
    shared: Shared | None
    bound: Shared | None
    own: Taken | None
    details: Details | None
    slot: int
    clock: int | None
    otelkit_tallies: Any  # of signals/insights.py
    instrumentation_scope: InstrumentationScope
    _context: SpanContext | None
    _above: SpanContext | Span | None
    _tracing: Tracing
    _open: Tracing | None

    # -- who it is

    def get_span_context(self) -> SpanContext:
        context = self._context
        if context is None:
            context = self._context = SpanContext(
                self.trace_id, self.span_id, False, TraceFlags(self.flags & 0xFF), self.trace_state
            )
        return context

    @property
    def context(self) -> SpanContext:
        return self.get_span_context()

    @property
    def parent(self) -> SpanContext | None:
        parent = self._above
        if type(parent) is Span:
            parent = self._above = parent.get_span_context()
        elif parent is None and self.parent_id:  # a span of this process, and this one has ended
            parent = self._above = SpanContext(
                self.trace_id, self.parent_id, False, TraceFlags(self.flags & 0xFF), self.trace_state
            )
        return parent  # type: ignore[return-value]  # no span any more

    def is_recording(self) -> bool:
        return self.end_time is None

    def open_in(self, tracing: Tracing) -> bool:
        """Whether it has not ended, and goes to this opening when it does."""
        return self._open is tracing

    # -- what it says (its attributes: layers.py)

    def update_name(self, name: str) -> None:
        if self.end_time is not None:
            late("update_name")
            return
        self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if self.end_time is not None:
            late("set_status")
            return
        code = status.status_code if isinstance(status, Status) else status
        if not isinstance(code, StatusCode) or code is StatusCode.UNSET or self.status.status_code is StatusCode.OK:
            return
        if not isinstance(status, Status):
            status = Status(code, description)
        elif description is not None:
            logger.warning("the description %r is ignored beside a Status, which has its own", description)
        self._detailed().status = status

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        if self.end_time is not None:
            late("add_event")
            return
        try:
            if timestamp is None and self.clock is not None:
                timestamp = perf_counter_ns() + self.clock
            limits = self._tracing.limits
            described = _immutable(limits.max_event_attributes, attributes, limits.max_attribute_length)
            self._detailed().events.append(Event(name, described, timestamp))
        except Exception:  # noqa: BLE001 - as above
            guard.report("an event of a span")

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        if self.end_time is not None:
            late("add_link")
            return
        try:
            self._link(context, attributes)
        except Exception:  # noqa: BLE001 - as above
            guard.report("a link of a span")

    def take_links(self, links: Sequence[Link]) -> None:
        """Adds the links that a span starts with."""
        for link in links:
            try:
                if link is not None:
                    self._link(link.context, link.attributes)
            except Exception:  # noqa: BLE001 - as above
                guard.report("a link of a span")

    def _link(self, context: SpanContext, attributes: Mapping[str, Any] | None) -> None:
        if not (context and (context.is_valid or attributes or context.trace_state)):
            return
        limits = self._tracing.limits
        described = _immutable(limits.max_link_attributes, attributes, limits.max_attribute_length)
        self._detailed().links.append(Link(context, described))

    def _detailed(self) -> Details:
        details = self.details
        if details is None:
            details = self.details = Details(self._tracing)
        return details

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        described: dict[str, Any] = {**exceptions.described(exception), "exception.escaped": str(escaped)}
        with guard.guarded("the attributes of an exception"):
            described.update(attributes or {})
        self.add_event("exception", described, timestamp)

    def on_exception(self, *, record_exception: bool, set_status_on_exception: bool) -> None:
        """What an exception that leaves a `with span` block does."""
        details = self._detailed()
        details.record_exception = record_exception
        details.set_status_on_exception = set_status_on_exception

    # -- its end

    def start(self, start_time: int | None = None, parent_context: Context | None = None) -> None:
        logger.warning("start on a span that has started does nothing")

    def end(self, end_time: int | None = None) -> None:
        if _ending is None:
            tracing = self._open
            self._open = None
        else:
            with _ending.lock:
                tracing, self._open = self._open, None
        if tracing is None:
            late("end")
            return
        if end_time is not None:
            self.end_time = end_time
        else:
            self.end_time = time_ns() if self.clock is None else perf_counter_ns() + self.clock
        if tracing.processors:
            tracing.ended(self)
        if type(self._above) is Span:
            self._above = None  # spans that follow each other forever must not hold all that went before
        put = tracing.put
        if put is not None and self.flags & 1:
            put(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None and self.is_recording():
            details = self.details
            if details is None or details.record_exception:
                self.record_exception(error, escaped=True)
            if details is None or details.set_status_on_exception:
                self.set_status(StatusCode.ERROR, f"{type(error).__name__}: {exceptions.message(error)}")
        self.end()

    # -- what a processor reads

    @property
    def status(self) -> Status:
        return self.details.status if self.details is not None else _UNSET

    @property
    def events(self) -> Sequence[Event]:
        return tuple(self.details.events) if self.details is not None else ()

    @property
    def links(self) -> Sequence[Link]:
        return tuple(self.details.links) if self.details is not None else ()

    @property
    def dropped_events(self) -> int:
        return self.details.dropped_events if self.details is not None else 0

    @property
    def dropped_links(self) -> int:
        return self.details.dropped_links if self.details is not None else 0

    @property
    def resource(self) -> Resource:
        return self._tracing.resource

    def readable(self) -> ReadableSpan:
        """The span as the SDK hands it to processors and exporters when it has ended."""
        details = self.details
        own = self.own
        attributes = self._merged() if own is None or type(own) is dict else own
        return _Ended(
            name=self.name,
            context=self.get_span_context(),
            parent=self.parent,
            resource=self._tracing.resource,
            attributes=attributes,
            events=details.events if details is not None else (),
            links=details.links if details is not None else (),
            kind=self.kind,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=self.instrumentation_scope,
        )

    def to_json(self, indent: int | None = 4) -> str:
        text: str = self.readable().to_json(indent)
        return text

    def __repr__(self) -> str:
        return f"Span(name={self.name!r}, context={self.get_span_context()})"


def _immutable(count: int | None, attributes: Mapping[str, Any] | None, length: int | None) -> Any:
    return BoundedAttributes(count, attributes, immutable=True, max_value_len=length)
