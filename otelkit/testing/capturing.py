"""Captures everything that a block of code records, and lets nothing of it out of the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as context_api

from otelkit.engine.context import detach
from otelkit.signals import correlation
from otelkit.testing.drawing import drawn
from otelkit.testing.logs import CapturedLog, Logs
from otelkit.testing.metrics import Metrics
from otelkit.testing.recording import Recording
from otelkit.testing.repeated import Repeated, repeated
from otelkit.testing.spans import CapturedSpan, Spans


class Captured:
    """What was recorded so far: each look at it sees what came up to then, from every thread of the process."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    @property
    def spans(self) -> Spans:
        """The spans that have ended, in the order of their start."""
        ended = sorted(self._recording.ended_spans, key=lambda span: span.start_time or 0)
        return Spans([CapturedSpan(span, self) for span in ended], self)

    @property
    def logs(self) -> Logs:
        """The log records, events and recorded exceptions, in the order in which they were emitted."""
        return Logs([CapturedLog(record, self) for record in self._recording.records], self)

    @property
    def metrics(self) -> Metrics:
        """The metrics up to now."""
        return Metrics(self._recording.measured())

    def span_of(self, trace_id: str, span_id: str) -> CapturedSpan | None:
        """The ended span with these ids."""
        for span in self._recording.ended_spans:
            found = CapturedSpan(span, self)
            if found.span_id == span_id and found.trace_id == trace_id:
                return found
        return None

    def n_plus_one(self, *, at_least: int = 10) -> list[Repeated]:
        """Each SQL statement that ran so often right under one span."""
        return repeated(self.spans, at_least)

    def tree(self) -> str:
        """All spans, those that have not ended too, with their log records, drawn."""
        return drawn(self._recording.all_spans(), self._recording.records)

    def __repr__(self) -> str:
        return f"<captured telemetry: {self.spans!r}, {self.logs!r}, {self.metrics!r}>"


@contextmanager
def capture() -> Iterator[Captured]:
    """Captures the telemetry of the whole process in the block: `with otelkit.testing.capture() as telemetry:`.

    Nothing is exported, every span is sampled, and `otelkit.bootstrap` may be called within, once. Of the objects that
    bootstrap is given, views, span limits and the id generator hold, so that records look as ever; processors, readers
    and the sampler are left out. What was started before is set aside for the block. The block begins outside of any
    span, with nothing bound. Raises RuntimeError within another capture.
    """
    from otelkit import wiring  # it imports otelkit.testing

    recording = Recording()
    context = context_api.attach(context_api.Context())
    holder, _ = correlation.open_holder({})
    try:
        with wiring.captured(recording.receivers):
            try:
                yield Captured(recording)
            finally:
                recording.end()
    finally:
        correlation.close_holder(holder)
        detach(context)
