"""The tracer provider: one object for the life of the process, over openings that come and go.

OpenTelemetry's globals are set once a process, but telemetry is opened more than once: after `shutdown`, with other
settings after an automatic start, anew in every forked child. Tracers that libraries keep go on working over all of
that: they look at the provider's present opening at each span.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from otelkit.delivery.records import REMOTE_PARENT, Shared, SpanRecord
from otelkit.engine.attributes import AttributeLimits, Taken
from otelkit.engine.context import SPAN_KEY, variable
from otelkit.engine.current import CurrentSpan
from otelkit.engine.ids import makers
from otelkit.engine.instrumentation_info import info
from otelkit.engine.seams import ForklessTracerProvider, on_ending
from otelkit.engine.span import Span
from otelkit.engine.unsampled import UnsampledSpan
from otelkit.runtime import fork, guard
from otelkit.signals import correlation
from otelkit.signals.suppression import SilenceableSampler, decided

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

logger = logging.getLogger("otelkit.engine")

_SAMPLED, _RANDOM = 0x01, 0x02
_KEPT_TRACERS = 1024
_RANDOM_IDS = RandomIdGenerator()
_LIMIT = sampling.TraceIdRatioBased.TRACE_ID_LIMIT
_new = object.__new__
# The monotonic clock stands still while a machine sleeps: a span under an older parent reads the wall clock again.
_CLOCK_HOLDS_NS = 60_000_000_000


class Tracing:
    """What the tracers of one opening work with; `sdk` is set where the SDK's own engine does the work.

    `put` takes ended, sampled spans; None where traces are not exported by OTLP.
    """

    def __init__(
        self,
        *,
        resource: Resource,
        sampler: sampling.Sampler,
        limits: sdk.SpanLimits,
        ids: IdGenerator,
        processors: tuple[sdk.SpanProcessor, ...] = (),
        put: Callable[[SpanRecord], None] | None = None,
        began: Callable[[Any], None] | None = None,
        flush: Callable[[int], bool] | None = None,
        provider: sdk.TracerProvider | None = None,
    ) -> None:
        self.resource = resource
        self.sampler = sampler
        self.limits = limits
        self.span_attributes = AttributeLimits(limits.max_span_attributes, limits.max_span_attribute_length)
        self.use_ids(ids)
        self.processors = processors
        self.put = put
        self.began = began
        self.flush = flush
        self.sdk = provider
        self.root_bound = _root_bound(sampler)

    def use_ids(self, ids: IdGenerator) -> None:
        """Takes ids of this generator from now on."""
        self.ids = ids
        self.make_span_id, self.make_trace_id = makers(ids)
        self.random_flag = _RANDOM if ids.is_trace_id_random() else 0

    def started(self, span: Span, context: Context | None) -> None:
        """Tells the processors."""
        for processor in self.processors:
            with guard.guarded("a span processor's on_start"):
                processor.on_start(span, parent_context=context)

    def ended(self, span: Span) -> None:
        """Tells the processors."""
        for processor in self.processors:
            with guard.guarded("a span processor's _on_ending"):
                on_ending(processor, span)
        readable = span.readable()
        for processor in self.processors:
            with guard.guarded("a span processor's on_end"):
                processor.on_end(readable)


def _root_bound(sampler: sampling.Sampler) -> int | None:
    """Below which trace id a root is sampled, where the sampler is one of those that are asked inline: a
    parent-based one as OTEL_TRACES_SAMPLER makes it. None for every other.
    """
    return sampler.root_bound if type(sampler) is SilenceableSampler else None


class TracerProvider(ForklessTracerProvider):
    """Re-openable; processors that users add stay over every opening, as they would on a provider that is never
    closed.
    """

    def __init__(self) -> None:
        self.tracing: Tracing | None = None
        self._added: tuple[sdk.SpanProcessor, ...] = ()
        self._made: dict[InstrumentationScope, Tracer] = {}
        super().__init__(shutdown_on_exit=False, resource=Resource.get_empty(), sampler=sampling.ALWAYS_OFF)

    def open(self, tracing: Tracing) -> None:
        """Lets every tracer of this provider work for this opening."""
        for processor in self._added:
            _add(tracing, processor)
        self.tracing = tracing

    @property
    def sampler(self) -> sampling.Sampler:
        if self.tracing is None:
            return sampling.ALWAYS_OFF
        asked = self.tracing.sampler
        return asked.sampler if isinstance(asked, SilenceableSampler) else asked

    @sampler.setter
    def sampler(self, sampler: sampling.Sampler) -> None:
        if self.tracing is not None:
            self.tracing.sampler = asked = SilenceableSampler(sampler)
            self.tracing.root_bound = asked.root_bound
            if self.tracing.sdk is not None:
                self.tracing.sdk.sampler = asked  # of the tracers that it makes from now on

    @property  # type: ignore[override]  # the SDK takes any generator and declares one
    def id_generator(self) -> IdGenerator:
        return self.tracing.ids if self.tracing is not None else _RANDOM_IDS

    @id_generator.setter
    def id_generator(self, ids: IdGenerator) -> None:
        if self.tracing is not None:
            self.tracing.use_ids(ids)
            if self.tracing.sdk is not None:
                self.tracing.sdk.id_generator = ids  # type: ignore[assignment]

    @property
    def resource(self) -> Resource:
        return self.tracing.resource if self.tracing is not None else Resource.get_empty()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> api.Tracer:
        if not instrumenting_module_name:
            logger.error("get_tracer was called without a name")
        tracer = Tracer(self, (instrumenting_module_name or "", instrumenting_library_version, schema_url, attributes))
        if len(self._made) >= _KEPT_TRACERS:
            return tracer  # an application that makes up names
        return self._made.setdefault(tracer.scope, tracer)

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        self._added = (*self._added, span_processor)
        if self.tracing is not None:
            _add(self.tracing, span_processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        tracing = self.tracing
        if tracing is None:
            return True
        if tracing.sdk is not None:
            return tracing.sdk.force_flush(timeout_millis)
        flushes: list[Callable[[int], bool]] = [processor.force_flush for processor in tracing.processors]
        if tracing.flush is not None:
            flushes.append(tracing.flush)
        deadline = monotonic() + timeout_millis / 1000  # of all together
        flushed = [flush(max(0, round(1000 * (deadline - monotonic())))) for flush in flushes]
        return all(found is not False for found in flushed)

    def shutdown(self) -> None:
        if self.tracing is None:
            return
        if self.tracing.sdk is not None:
            self.tracing.sdk.shutdown()
        for processor in self.tracing.processors:
            processor.shutdown()


def _add(tracing: Tracing, processor: sdk.SpanProcessor) -> None:
    if tracing.sdk is not None:
        tracing.sdk.add_span_processor(processor)
    else:
        tracing.processors = (*tracing.processors, processor)


class Tracer(sdk.Tracer):
    """A tracer of the provider's present opening."""

    def __init__(self, provider: TracerProvider, arguments: tuple[str, str | None, str | None, Attributes]) -> None:
        self._provider = provider
        self._arguments = arguments
        name, version, schema_url, attributes = arguments
        self.scope = InstrumentationScope(name, version or "", schema_url, attributes)
        self._for: sdk.TracerProvider | None = None
        self._tracer: api.Tracer = api.NoOpTracer()

    # What the SDK's tracer says of its provider, which may have another opening by now.
    resource = property(lambda self: self._provider.resource)
    sampler = property(lambda self: self._provider.sampler)
    id_generator = property(lambda self: self._provider.id_generator)
    instrumentation_info = property(lambda self: info(self.scope))

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> api.Span:
        tracing = self._provider.tracing
        if tracing is None or tracing.sdk is not None:
            return self._of_the_sdk().start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        span: api.Span = self.begin(name, kind, None, attributes, context, links, start_time)
        if not (record_exception and set_status_on_exception) and type(span) is Span:
            span.on_exception(record_exception=record_exception, set_status_on_exception=set_status_on_exception)
        return span

    def begin(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        shared: Shared | None = None,
        attributes: Mapping[str, Any] | None = None,
        context: Context | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
    ) -> Any:
        """Starts a span, as `start_span` does: the door for otelkit's own instrumentations.

        `shared` are attributes that many spans have: they are not copied, and encoded once. Beside them, `attributes`
        is a new dict of simple values under other keys, which is taken over as it is.
        """
        tracing = self._provider.tracing
        if tracing is None or tracing.sdk is not None:
            everything = {**shared, **(attributes or {})} if shared else attributes
            return self._of_the_sdk().start_span(name, context, kind, everything, links, start_time)

        parent: Any = (variable.get() if context is None else context).get(SPAN_KEY)
        parent_type = type(parent)
        foreign: SpanContext | None = None
        flags = 0
        trace_state: TraceState | None = None
        if parent_type is Span or parent_type is UnsampledSpan:
            trace_id = parent.trace_id
            flags = parent.flags
            trace_state = parent.trace_state
        else:
            fork.check()
            tracing = self._provider.tracing or tracing
            if parent is not None and isinstance(parent, api.Span):  # an abstract class asks in Python
                foreign = parent.get_span_context()
                if foreign is not None and not foreign.is_valid:
                    foreign = None
            if foreign is not None:
                trace_id = foreign.trace_id
                flags = int(foreign.trace_flags) | REMOTE_PARENT * foreign.is_remote
                trace_state = foreign.trace_state
            else:
                parent = None
                trace_id = tracing.make_trace_id()
                flags = tracing.random_flag

        bound = tracing.root_bound
        if bound is not None and decided.get() is None:
            sampled = recorded = bool(flags & _SAMPLED) if parent is not None else trace_id & _LIMIT < bound
        else:
            merged: Mapping[str, Any] | None = {**shared, **(attributes or {})} if shared else attributes
            recorded, sampled, attributes, trace_state = self._ask(
                tracing, context, trace_id, name, kind, merged, links
            )
            shared = None
            if parent is not None and foreign is None:
                foreign = parent.get_span_context()  # its flags and state need not be the child's
                flags &= ~REMOTE_PARENT  # the parent's own parent was, the parent is not
        if not recorded:
            return UnsampledSpan(trace_id, flags & _RANDOM, trace_state, tracing.make_span_id, asks_again=bound is None)

        span = _new(Span)
        span.name = name
        span.kind = kind
        span.trace_id = trace_id
        span.span_id = tracing.make_span_id()
        if parent is None:
            span.parent_id = 0
        else:
            span.parent_id = parent.span_id if foreign is None else foreign.span_id
        span.flags = flags & (_RANDOM | (REMOTE_PARENT if foreign is not None else 0)) | sampled
        span.trace_state = trace_state
        span.end_time = span.details = span._context = span.otelkit_tallies = None
        span._above = foreign if foreign is not None else parent
        span._tracing = span._open = tracing
        span.instrumentation_scope = self.scope
        own: Taken | None = None
        if attributes:
            if shared is not None and not tracing.span_attributes.tight:
                own = attributes  # type: ignore[assignment]  # an instrumentation's own
            else:
                try:
                    own = tracing.span_attributes.take(attributes)
                except Exception:  # noqa: BLE001 - attributes that cannot be read must not fail the application
                    guard.report("the attributes of a span")
        span.lay(shared, own, correlation.bound())
        if links:
            span.take_links(links)
        if start_time is not None:
            span.clock = None
            span.start_time = start_time
        else:
            now_ns = perf_counter_ns()
            clock = parent.clock if parent_type is Span else None
            if clock is None or now_ns + clock > parent.start_time + _CLOCK_HOLDS_NS:
                clock = time_ns() - now_ns
            span.clock = clock
            span.start_time = now_ns + clock  # last: engine/unended.py looks for it
        if tracing.processors:
            tracing.started(span, context)
        if tracing.began is not None and sampled:
            tracing.began(span)
        return span

    def _ask(
        self,
        tracing: Tracing,
        context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, Any] | None,
        links: Sequence[Link] | None,
    ) -> tuple[bool, bool, Mapping[str, Any] | None, TraceState | None]:
        """The sampler's answer: recorded, sampled, the attributes, the trace state."""
        try:
            result = tracing.sampler.should_sample(context, trace_id, name, kind, attributes, links or ())
        except Exception:  # noqa: BLE001 - a sampler that fails must not fail the application
            guard.report("the sampler")
            return False, False, None, None
        decision = result.decision
        recorded, sampled = decision.is_recording(), decision.is_sampled()  # type: ignore[no-untyped-call]
        return recorded, sampled, result.attributes, result.trace_state

    def _of_the_sdk(self) -> api.Tracer:
        fork.check()
        provider = self._provider.tracing.sdk if self._provider.tracing is not None else None
        if provider is not self._for:
            self._tracer = provider.get_tracer(*self._arguments) if provider is not None else api.NoOpTracer()
            self._for = provider
        return self._tracer

    def start_as_current_span(  # type: ignore[override]
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> AbstractContextManager[api.Span]:
        return CurrentSpan(
            self.begin,
            (name, kind, None, attributes, context, links, start_time),
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
            end_on_exit=end_on_exit,
        )
