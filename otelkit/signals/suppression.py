"""Silence for a part of the program: below an excluded URL no span is recorded, whoever makes it.

The sampler of every opening asks here first, so the silence covers business spans and contrib's instrumentations too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

silent: ContextVar[bool] = ContextVar("otelkit_silent", default=False)
"""True below an excluded URL."""


@contextmanager
def silence() -> Iterator[None]:
    """No spans within the block and in what it starts."""
    token = silent.set(True)
    try:
        yield
    finally:
        silent.reset(token)


def is_silent() -> bool:
    """Whether the block is silent."""
    return silent.get()


class SilenceableSampler(Sampler):
    """Asks another sampler unless the block is silent.

    `root_bound` is for the engine, which need not ask a sampler that follows the parent: a trace without one is
    sampled where the lower half of its id is below. None where the sampler is of another kind.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.root_bound = _root_bound(sampler)

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
        if silent.get():
            return SamplingResult(Decision.DROP, None, trace_state)
        return self.sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return self.sampler.get_description()


def _root_bound(sampler: Sampler) -> int | None:
    if not isinstance(sampler, FollowsParent):
        return None
    root = sampler.root
    if isinstance(root, TraceIdRatioBased):
        return root.bound
    return TraceIdRatioBased.TRACE_ID_LIMIT + 1 if root is ALWAYS_ON else 0


class FollowsParent(ParentBased):
    """The SDK's ParentBased, which keeps its root to itself; `root` is ALWAYS_ON, ALWAYS_OFF or a TraceIdRatioBased."""

    def __init__(self, root: Sampler) -> None:
        super().__init__(root)
        self.root = root
