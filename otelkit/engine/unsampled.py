"""The span that is not recorded."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState


class UnsampledSpan(NonRecordingSpan):
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
