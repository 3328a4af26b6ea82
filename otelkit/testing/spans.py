"""The spans of a captured test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, cast, overload

from opentelemetry.sdk.trace import ReadableSpan

from otelkit.testing.attributes import Attributes, carries, wanted
from otelkit.testing.drawing import drawn

if TYPE_CHECKING:
    from otelkit.testing.capturing import Captured
    from otelkit.testing.logs import Logs

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Status = Literal["unset", "ok", "error"]


class CapturedSpan:
    """A span that has ended; `otel` is the SDK's."""

    __slots__ = ("_captured", "otel")

    def __init__(self, span: ReadableSpan, captured: Captured) -> None:
        self.otel = span
        self._captured = captured

    @property
    def name(self) -> str:
        """The name that it ended with."""
        return self.otel.name

    @property
    def kind(self) -> Kind:
        """Which side of a call it is."""
        return cast("Kind", self.otel.kind.name.lower())

    @property
    def attributes(self) -> Attributes:
        """Its attributes."""
        return dict(self.otel.attributes or {})

    @property
    def status(self) -> Status:
        """Whether it failed; `unset` where nobody said."""
        return cast("Status", self.otel.status.status_code.name.lower())

    @property
    def duration_s(self) -> float:
        """From start to end."""
        return ((self.otel.end_time or 0) - (self.otel.start_time or 0)) / 1e9

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return f"{self.otel.context.trace_id:032x}" if self.otel.context is not None else "0" * 32

    @property
    def span_id(self) -> str:
        """16 hex digits."""
        return f"{self.otel.context.span_id:016x}" if self.otel.context is not None else "0" * 16

    @property
    def parent_id(self) -> str | None:
        """The parent's span id, also of a parent in another process."""
        return f"{self.otel.parent.span_id:016x}" if self.otel.parent is not None else None

    @property
    def parent(self) -> CapturedSpan | None:
        """The span above it; None for a root, and where the parent has not ended or is not of this process."""
        return self._captured.span_of(self.trace_id, self.parent_id) if self.parent_id is not None else None

    @property
    def children(self) -> Spans:
        """The spans right under it, in the order of their start."""
        return self._captured.spans.where(
            lambda span: span.parent_id == self.span_id and span.trace_id == self.trace_id
        )

    @property
    def descendants(self) -> Spans:
        """All spans under it."""
        under = {self.span_id}
        found: list[CapturedSpan] = []
        for span in self._captured.spans.where(lambda span: span.trace_id == self.trace_id):
            if span.parent_id in under:
                under.add(span.span_id)
                found.append(span)
        return Spans(found, self._captured)

    @property
    def logs(self) -> Logs:
        """The log records that were emitted in it, not in those under it."""
        return self._captured.logs.where(lambda log: log.span_id == self.span_id and log.trace_id == self.trace_id)

    def tree(self) -> str:
        """It and what is under it, drawn."""
        return Spans([self, *self.descendants], self._captured).tree()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CapturedSpan) and (self.trace_id, self.span_id) == (other.trace_id, other.span_id)

    def __hash__(self) -> int:
        return hash(self.span_id)

    def __repr__(self) -> str:
        return f"<span {self.name!r}>"


class Spans(Sequence[CapturedSpan]):
    """Ended spans in the order of their start; each filter gives another such collection."""

    def __init__(self, spans: Sequence[CapturedSpan], captured: Captured) -> None:
        self._spans = tuple(spans)
        self._captured = captured

    def where(self, condition: Callable[[CapturedSpan], bool]) -> Spans:
        """Those for which the condition holds."""
        return Spans([span for span in self._spans if condition(span)], self._captured)

    def named(self, name: str) -> Spans:
        """Those with this name."""
        return self.where(lambda span: span.name == name)

    def of_kind(self, kind: Kind) -> Spans:
        """Those of this kind."""
        return self.where(lambda span: span.kind == kind)

    def with_attributes(self, attributes: Attributes | None = None, /, **attrs: object) -> Spans:
        """Those that carry all of these: `spans.with_attributes({"http.route": "/orders"}, plan="pro")`."""
        sought = wanted(attributes, attrs)
        return self.where(lambda span: carries(span.attributes, sought))

    @property
    def roots(self) -> Spans:
        """Those without a parent in this process."""
        ids = {(span.trace_id, span.span_id) for span in self._captured.spans}
        return self.where(lambda span: (span.trace_id, span.parent_id) not in ids)

    @property
    def queries(self) -> Spans:
        """The database calls (SQL and Redis): client spans with a `db.system.name`."""
        return self.where(lambda span: span.kind == "client" and "db.system.name" in (span.otel.attributes or {}))

    @property
    def failed(self) -> Spans:
        """Those whose status is an error."""
        return self.where(lambda span: span.status == "error")

    def one(self) -> CapturedSpan:
        """The only one. Raises AssertionError, with all telemetry as a tree, where there is none or more."""
        __tracebackhide__ = True
        if len(self._spans) != 1:
            raise AssertionError(f"{len(self)} spans match, expected 1\n\n{self._captured.tree()}")
        return self._spans[0]

    def tree(self) -> str:
        """These spans, with their log records, drawn."""
        ids = {span.span_id for span in self._spans}
        records = self._captured.logs.where(lambda log: log.span_id in ids)
        return drawn([span.otel for span in self._spans], [record.otel for record in records])

    def explain(self) -> str:
        """All telemetry as a tree."""
        return self._captured.tree()

    @overload
    def __getitem__(self, index: int) -> CapturedSpan: ...
    @overload
    def __getitem__(self, index: slice) -> Spans: ...
    def __getitem__(self, index: int | slice) -> CapturedSpan | Spans:
        if isinstance(index, slice):
            return Spans(self._spans[index], self._captured)
        return self._spans[index]

    def __iter__(self) -> Iterator[CapturedSpan]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __repr__(self) -> str:
        return f"<{len(self)} spans: {', '.join(repr(span.name) for span in self)}>"
