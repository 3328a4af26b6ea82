"""The narrow door through which otelkit's own instrumentations reach the engine.

They could do everything through OpenTelemetry's API; this way costs them a fraction. Whoever made the global providers
(the engine, the SDK behind it with OTELKIT_ENGINE=sdk, somebody else's SDK), the same calls work.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Mapping, Sequence
from time import perf_counter_ns, time_ns
from typing import Any, Protocol

from opentelemetry import _logs, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from otelkit.delivery.records import Shared
from otelkit.engine.context import current_span, with_span
from otelkit.engine.logs import Logger
from otelkit.engine.span import Span
from otelkit.engine.tracing import Tracer
from otelkit.engine.unsampled import UnsampledSpan


class Begins(Protocol):
    """A tracer's door."""

    def begin(
        self,
        name: str,
        kind: SpanKind = ...,
        shared: Shared | None = None,
        attributes: Mapping[str, Any] | None = None,
        context: Context | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
    ) -> Any:
        """Starts a span; `shared` are attributes that many spans have: not copied, encoded once."""


class Writes(Protocol):
    """A logger's door."""

    def write(
        self,
        timestamp: int | None,
        severity_number: int,
        severity_text: str | None,
        body: Any,
        shared: Shared | None = None,
        attributes: Mapping[str, Any] | None = None,
        event_name: str | None = None,
    ) -> None:
        """Emits a record; `shared` are attributes that many records have: not copied, encoded once."""


class Adds(Protocol):
    """One series of a counter."""

    def add(self, amount: int | float = 1, span: Any = None, /) -> None:
        """Adds; `span` is where it was measured, where that is not the current one."""


class Records(Protocol):
    """One series of a histogram."""

    def record(self, amount: int | float, span: Any = None, /) -> None:
        """Records; `span` is where it was measured, where that is not the current one."""


def tracer(name: str) -> Begins:
    """The global provider's tracer."""
    found = trace.get_tracer(name)
    return found if isinstance(found, Tracer) else _ForeignTracer(found)


def logger(name: str) -> Writes:
    """The global provider's logger."""
    found = _logs.get_logger(name)
    return found if isinstance(found, Logger) else _ForeignLogger(found)


def series(instrument: Any, labels: Mapping[str, Any]) -> Any:
    """One series of an instrument, to be kept: it stays valid over openings and forks."""
    bind = getattr(instrument, "bind", None)
    return bind(labels) if bind is not None else _ForeignSeries(instrument, labels)


def adds(instrument: metrics.Counter | metrics.UpDownCounter, labels: Mapping[str, Any]) -> Adds:
    """One series of a counter."""
    found: Adds = series(instrument, labels)
    return found


def records(instrument: metrics.Histogram, labels: Mapping[str, Any]) -> Records:
    """One series of a histogram."""
    found: Records = series(instrument, labels)
    return found


def parent_to_record() -> Any:
    """The current span if a child of it may be recorded, else None: outside of any trace, and in one that is not
    sampled, an instrumentation need not make a span.
    """
    span = current_span()
    if span is None or type(span) is Span:
        return span
    if type(span) is UnsampledSpan:
        return span if span.asks_again else None
    return span if span.get_span_context().is_valid else None


def extend(span: Any, before: Shared, after: Shared) -> None:
    """Gives a span that began with the shared attributes `before` those of `after`, which has all of them."""
    if type(span) is Span and span.shared is before:
        span.shared = after
        if span.own is not None and not after.keys().isdisjoint(span.own):
            span.settle()
    else:
        span.set_attributes({key: value for key, value in after.items() if key not in before})


def end_at(span: Any, end_ns: int) -> None:
    """Ends a span as of a past reading of `time.perf_counter_ns`."""
    if type(span) is UnsampledSpan:
        return
    clock = span.clock if type(span) is Span else None
    if clock is None:
        clock = time_ns() - perf_counter_ns()
    span.end(end_ns + clock)


def traceparent(span: Any) -> bytes | None:
    """A recorded span's context as W3C writes it; None where there is none."""
    if type(span) is Span:
        trace, own = hexlify(span.trace_id.to_bytes(16, "big")), hexlify(span.span_id.to_bytes(8, "big"))
        return b"00-%b-%b-%02x" % (trace, own, span.flags & 0xFF)  # faster than to format the numbers
    if type(span) is UnsampledSpan:
        return None
    context = span.get_span_context()
    if not context.is_valid or not context.trace_flags & 1:
        return None
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


class _ForeignTracer:
    """Somebody else's tracer."""

    def __init__(self, real: trace.Tracer) -> None:
        self._real = real

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
        merged: dict[str, Any] = {**(shared or {}), **(attributes or {})}
        return self._real.start_span(name, context, kind, merged, links, start_time)


class _ForeignLogger:
    """Somebody else's logger."""

    def __init__(self, real: _logs.Logger) -> None:
        self._real = real

    def write(
        self,
        timestamp: int | None,
        severity_number: int,
        severity_text: str | None,
        body: Any,
        shared: Shared | None = None,
        attributes: Mapping[str, Any] | None = None,
        event_name: str | None = None,
    ) -> None:
        self._real.emit(
            timestamp=timestamp,
            severity_number=_logs.SeverityNumber(severity_number),
            severity_text=severity_text,
            body=body,
            attributes={**(shared or {}), **(attributes or {})},
            event_name=event_name,
        )


class _ForeignSeries:
    """One series of somebody else's instrument."""

    def __init__(self, instrument: Any, labels: Mapping[str, Any]) -> None:
        self._instrument = instrument
        self._labels = labels

    def add(self, amount: int | float = 1, span: Any = None, /) -> None:
        self._instrument.add(amount, self._labels, with_span(span) if span is not None else None)

    def record(self, amount: int | float, span: Any = None, /) -> None:
        self._instrument.record(amount, self._labels, with_span(span) if span is not None else None)

    def set(self, amount: int | float, span: Any = None, /) -> None:
        self._instrument.set(amount, self._labels, with_span(span) if span is not None else None)
