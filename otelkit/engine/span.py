"""The span of the hot path: what the SDK's span does, at a fraction of its cost.

Three layers of attributes, so that most of them are neither copied nor encoded for each span: `shared` (those of a
statement, a route, a task: made once by an instrumentation), `bound` (those of the request or task) and `own`. No key
is in two of them. Whatever is rare (events, links, a status) lies in `details`.

No locks: each step relies on CPython handing the interpreter over only at calls and backward jumps, so that a load
and a store next to each other are one step. A free-threaded build takes a lock for the one step that must not be
taken twice, the end.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns, time_ns
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from otelkit.delivery.records import REMOTE_PARENT, Shared
from otelkit.engine.attributes import SIMPLE, Taken
from otelkit.engine.instrumentation_info import Informed
from otelkit.runtime import guard
from otelkit.signals import exceptions

if TYPE_CHECKING:
    from otelkit.engine.tracing import Tracing

logger = logging.getLogger("otelkit.engine")

_UNSET = Status()
_NONE: Mapping[str, Any] = MappingProxyType({})
_ending = None if getattr(sys, "_is_gil_enabled", lambda: True)() else threading.Lock()


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


class Span(Informed, sdk.Span):
    """A span that is recorded; `Tracer.begin` makes it. Safe in threads as far as the SDK's is."""

    __slots__ = (
        "_began",
        "_context",
        "_open",
        "_parent",
        "_tracing",
        "bound",
        "details",
        "end_time",
        "flags",
        "instrumentation_scope",
        "kind",
        "name",
        "own",
        "parent_id",
        "shared",
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
    instrumentation_scope: InstrumentationScope
    _began: int
    _context: SpanContext | None
    _parent: SpanContext | None
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
        if self._parent is None and self.parent_id:
            remote = bool(self.flags & REMOTE_PARENT)
            self._parent = SpanContext(
                self.trace_id, self.parent_id, remote, TraceFlags(self.flags & 0xFF), self.trace_state
            )
        return self._parent

    def is_recording(self) -> bool:
        return self.end_time is None

    # -- what it says

    def set_attribute(self, key: str, value: Any) -> None:
        if self.end_time is not None:
            _late("set_attribute")
            return
        own = self.own
        tracing = self._tracing
        if (
            type(own) is dict
            and type(value) in SIMPLE
            and type(key) is str
            and key
            and self.shared is None
            and self.bound is None
            and tracing.span_attributes.plain
            and (len(own) < tracing.span_attributes.most or key in own)
        ):
            if key in own:
                del own[key]  # the newest stands last, as in the SDK
            own[key] = value
            return
        try:
            if isinstance(key, str):
                self._add({key: value})
            else:
                self._bounded().dropped += 1
        except Exception:  # noqa: BLE001 - a value that cannot be read must not fail the application
            guard.report("an attribute of a span")

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        if self.end_time is not None:
            _late("set_attributes")
            return
        try:
            if attributes:
                self._add(attributes)
        except Exception:  # noqa: BLE001 - as above
            guard.report("the attributes of a span")

    def _add(self, attributes: Mapping[str, Any]) -> None:
        limits = self._tracing.span_attributes
        own = self.own
        if own is None or type(own) is dict:
            taken = limits.take(attributes)
            if type(taken) is dict:
                if own is None and not self._layered(taken):
                    self.own = taken
                    return
                if own is not None and not self._layered({**own, **taken}):
                    for key in taken:
                        own.pop(key, None)  # the newest stands last, as in the SDK
                    own.update(taken)
                    return
                merged = self._merged()
                for key in taken:
                    merged.pop(key, None)
                merged.update(taken)
                if len(merged) <= limits.most:
                    self.own = merged
                    self.shared = self.bound = None
                    return
        limits.add(self._bounded(), attributes)

    def settle(self) -> None:
        """Sets the layers right after one of them was set: no key in two of them, and all of them within the limits."""
        own, shared, bound = self.own, self.shared, self.bound
        limits = self._tracing.span_attributes
        if self._layered(own or _NONE) or not (shared is None or bound is None or shared.keys().isdisjoint(bound)):
            merged = self._merged()
            if limits.plain and (own is None or type(own) is dict) and len(merged) <= limits.most:
                self.own = merged
                self.shared = self.bound = None
                return
        elif limits.plain:
            return
        self._bounded()

    def _layered(self, attributes: Mapping[str, Any]) -> bool:
        """Whether one of these keys is in a layer below `own`, or the layers come near the limit."""
        count = len(attributes)
        for layer in (self.shared, self.bound):
            if layer is not None:
                if not layer.keys().isdisjoint(attributes):
                    return True
                count += len(layer)
        return count > self._tracing.span_attributes.most

    def _merged(self) -> dict[str, Any]:
        return {**(self.bound or _NONE), **(self.shared or _NONE), **(self.own or _NONE)}

    def _bounded(self) -> Any:
        """The attributes in OpenTelemetry's own container, which every oddity goes through."""
        own = self.own
        if own is None or type(own) is dict or self.shared is not None or self.bound is not None:
            dropped = getattr(own, "dropped", 0)
            own = self._tracing.span_attributes.bounded(self._merged())
            own.dropped += dropped
            self.own = own
            self.shared = self.bound = None
        return own

    def update_name(self, name: str) -> None:
        if self.end_time is not None:
            _late("update_name")
            return
        self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if self.end_time is not None:
            _late("set_status")
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
            _late("add_event")
            return
        try:
            limits = self._tracing.limits
            described = _immutable(limits.max_event_attributes, attributes, limits.max_attribute_length)
            self._detailed().events.append(Event(name, described, timestamp))
        except Exception:  # noqa: BLE001 - as above
            guard.report("an event of a span")

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        if self.end_time is not None:
            _late("add_link")
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
            with _ending:
                tracing, self._open = self._open, None
        if tracing is None:
            _late("end")
            return
        if end_time is not None:
            self.end_time = end_time
        elif self._began < 0:
            self.end_time = time_ns()
        else:
            # The monotonic clock measures: the wall clock may be set meanwhile, and a span would last minus an hour.
            self.end_time = self.start_time + perf_counter_ns() - self._began
        if tracing.processors:
            tracing.ended(self)
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
    def attributes(self) -> Mapping[str, Any]:
        return MappingProxyType(self._merged())

    @property
    def dropped_attributes(self) -> int:
        return getattr(self.own, "dropped", 0)

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


class UnsampledSpan(api.NonRecordingSpan):
    """A span that is not recorded; its identity is made when somebody asks.

    `asks_again` says that the sampler may decide otherwise for a child: it does not follow the parent.
    """

    __slots__ = ("_span_context", "_span_id", "asks_again", "flags", "make_span_id", "trace_id", "trace_state")

    trace_id: int
    flags: int
    trace_state: TraceState | None
    make_span_id: Callable[[], int]
    _span_id: int
    _span_context: SpanContext | None

    def __init__(
        self,
        trace_id: int,
        flags: int,
        trace_state: TraceState | None,
        make_span_id: Callable[[], int],
        *,
        asks_again: bool,
    ) -> None:
        # Not the base class's, which wants the context at once.
        self.trace_id = trace_id
        self.flags = flags
        self.trace_state = trace_state
        self.make_span_id = make_span_id
        self.asks_again = asks_again
        self._span_id = 0
        self._span_context = None

    @property
    def span_id(self) -> int:
        if not self._span_id:
            self._span_id = self.make_span_id()
        return self._span_id

    def get_span_context(self) -> SpanContext:
        context = self._span_context
        if context is None:
            context = self._span_context = SpanContext(
                self.trace_id, self.span_id, False, TraceFlags(self.flags), self.trace_state
            )
        return context

    def __repr__(self) -> str:
        return f"UnsampledSpan({self.get_span_context()})"


def _immutable(count: int | None, attributes: Mapping[str, Any] | None, length: int | None) -> Any:
    return BoundedAttributes(count, attributes, immutable=True, max_value_len=length)


def _late(what: str) -> None:
    logger.warning("%s on a span that has ended does nothing", what)
