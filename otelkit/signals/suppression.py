"""Silence for a part of the program: below an excluded URL no span is recorded, whoever makes it.

The sampler of every opening asks here first, so the silence covers business spans and contrib's instrumentations too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

_silent: ContextVar[bool] = ContextVar("otelkit_silent", default=False)


@contextmanager
def silence() -> Iterator[None]:
    """No spans within the block and in what it starts."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def is_silent() -> bool:
    """Whether the block is silent."""
    return _silent.get()


class SilenceableSampler(Sampler):
    """Asks another sampler unless the block is silent."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if _silent.get():
            return SamplingResult(Decision.DROP, None, trace_state)
        return self.sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return self.sampler.get_description()
