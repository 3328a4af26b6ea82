"""What decides on spans before the sampler does: below an excluded URL none is recorded, whoever makes it; a request
whose route has a rate of its own begins by that.

The sampler of every opening asks here first, so silence covers business spans and contrib's instrumentations too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

decided: ContextVar[int | None] = ContextVar("otelkit_decided", default=None)
"""In the sampler's place: below which trace id (its lower half) a span is sampled; None where the sampler is asked."""
NEVER, ALWAYS = 0, TraceIdRatioBased.TRACE_ID_LIMIT + 1


def at_rate(rate: float) -> int:
    """The bound below which such a part of all trace ids is, 0 to 1."""
    return TraceIdRatioBased.get_bound_for_rate(rate)


@contextmanager
def silence() -> Iterator[None]:
    """No spans within the block and in what it starts."""
    token = decided.set(NEVER)
    try:
        yield
    finally:
        decided.reset(token)


class SilenceableSampler(Sampler):
    """Asks another sampler unless it is decided already.

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
        bound = decided.get()
        if bound is not None:
            chosen = ALWAYS_ON if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < bound else ALWAYS_OFF
            return chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        return self.sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return self.sampler.get_description()


def _root_bound(sampler: Sampler) -> int | None:
    if not isinstance(sampler, FollowsParent):
        return None
    root = sampler.root
    if isinstance(root, TraceIdRatioBased):
        return root.bound
    return ALWAYS if root is ALWAYS_ON else NEVER


class FollowsParent(ParentBased):
    """The SDK's ParentBased, which keeps its root to itself; `root` is ALWAYS_ON, ALWAYS_OFF or a TraceIdRatioBased."""

    def __init__(self, root: Sampler) -> None:
        super().__init__(root)
        self.root = root
