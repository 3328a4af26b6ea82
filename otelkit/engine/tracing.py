"""The tracer provider: one object for the life of the process, over an SDK provider that is opened and closed.

OpenTelemetry's globals are set once a process, but telemetry is opened more than once: after `shutdown`, with other
settings after an automatic start, anew in every forked child. Tracers that libraries keep go on working over all of
that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.types import Attributes

from otelkit.engine.current import CurrentSpan
from otelkit.engine.seams import ForklessTracerProvider

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class TracerProvider(ForklessTracerProvider):
    """Re-openable; processors that users add stay over every opening, as they would on a provider that is never
    closed.
    """

    def __init__(self) -> None:
        self._inner: sdk.TracerProvider | None = None
        self._added: list[sdk.SpanProcessor] = []
        super().__init__(shutdown_on_exit=False, resource=Resource.get_empty())
        self.generation = 0

    def open(self, inner: sdk.TracerProvider) -> None:
        """Makes every tracer of this provider one of `inner`'s."""
        for processor in self._added:
            inner.add_span_processor(processor)
        self.sampler = inner.sampler
        self.id_generator = inner.id_generator
        self._inner = inner
        self.generation += 1

    @property
    def inner(self) -> sdk.TracerProvider:
        """The SDK provider of the present opening."""
        assert self._inner is not None
        return self._inner

    @property
    def resource(self) -> Resource:
        return self._inner.resource if self._inner is not None else Resource.get_empty()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> api.Tracer:
        return Tracer(self, (instrumenting_module_name, instrumenting_library_version, schema_url, attributes))

    def add_span_processor(self, span_processor: sdk.SpanProcessor) -> None:
        if self._inner is None:  # the SDK's constructor
            return
        self._added.append(span_processor)
        self._inner.add_span_processor(span_processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self.inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        self.inner.shutdown()


class Tracer(api.Tracer):
    """A tracer of the provider's present opening."""

    __slots__ = ("_arguments", "_generation", "_provider", "_tracer")

    def __init__(self, provider: TracerProvider, arguments: tuple[Any, ...]) -> None:
        self._provider = provider
        self._arguments = arguments
        self._generation = -1
        self._tracer: api.Tracer = api.NoOpTracer()

    def _current(self) -> api.Tracer:
        if self._generation != self._provider.generation:
            generation = self._provider.generation
            self._tracer = self._provider.inner.get_tracer(*self._arguments)
            self._generation = generation
        return self._tracer

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: api.SpanKind = api.SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[api.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> api.Span:
        return self._current().start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )

    def start_as_current_span(  # type: ignore[override]
        self,
        name: str,
        context: Context | None = None,
        kind: api.SpanKind = api.SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[api.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> AbstractContextManager[api.Span]:
        return CurrentSpan(
            lambda: self._current().start_span(name, context, kind, attributes, links, start_time),
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
            end_on_exit=end_on_exit,
        )
