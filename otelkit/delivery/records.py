"""What the encoder reads: narrow shapes of a span and a log record, and attributes that many of them share.

The engine's spans and log records have these shapes; what the SDK made is given one by engine/sdk_records.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.trace.status import Status

Attributes = Mapping[str, object]

REMOTE_PARENT = 0x100
"""Set in a span record's `flags` beside the W3C trace flags: the parent is in another process."""


class Shared(dict[str, object]):
    """Attributes that many records have in common, those of a statement or a request: never changed, encoded once.

    `pairs` and `encoded` are the encoder's: each attribute's bytes, and all of them by the tag of the field that they
    stand in; unset before their first use.
    """

    __slots__ = ("encoded", "pairs")

    encoded: dict[bytes, bytes]
    pairs: list[bytes]


class Scope(Protocol):
    """An instrumentation scope."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def schema_url(self) -> str | None: ...
    @property
    def attributes(self) -> Attributes | None: ...


class Scoped(Protocol):
    """Whatever was made under a scope."""

    @property
    def instrumentation_scope(self) -> Scope | None: ...


class SpanEvent(Protocol):
    """An event of a span; times are nanoseconds since the epoch."""

    @property
    def name(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def attributes(self) -> Attributes | None: ...
    @property
    def dropped_attributes(self) -> int: ...


class SpanDetails(Protocol):
    """What few spans have: a status, events, links."""

    @property
    def status(self) -> Status: ...
    @property
    def events(self) -> Sequence[SpanEvent]: ...
    @property
    def links(self) -> Sequence[Link]: ...
    @property
    def dropped_events(self) -> int: ...
    @property
    def dropped_links(self) -> int: ...


class SpanRecord(Scoped, Protocol):
    """An ended span; times are nanoseconds since the epoch.

    `parent_id` is 0 for a root. No key is in more than one of `shared`, `bound` and `own`; `own` may count what it
    dropped (`dropped`, as BoundedAttributes does).
    """

    @property
    def name(self) -> str: ...
    @property
    def trace_id(self) -> int: ...
    @property
    def span_id(self) -> int: ...
    @property
    def parent_id(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def trace_state(self) -> TraceState | None: ...
    @property
    def kind(self) -> SpanKind: ...
    @property
    def start_time(self) -> int | None: ...
    @property
    def end_time(self) -> int | None: ...
    @property
    def shared(self) -> Shared | None: ...
    @property
    def bound(self) -> Shared | None: ...
    @property
    def own(self) -> Attributes | None: ...
    @property
    def details(self) -> SpanDetails | None: ...


class LogRecord(Scoped, Protocol):
    """An emitted log record; times are nanoseconds since the epoch, 0 or None where unknown.

    The attributes are those of a SpanRecord.
    """

    @property
    def timestamp(self) -> int | None: ...
    @property
    def observed_timestamp(self) -> int | None: ...
    @property
    def severity_number(self) -> int: ...
    @property
    def severity_text(self) -> str | None: ...
    @property
    def body(self) -> object: ...
    @property
    def event_name(self) -> str | None: ...
    @property
    def trace_id(self) -> int: ...
    @property
    def span_id(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def shared(self) -> Shared | None: ...
    @property
    def bound(self) -> Shared | None: ...
    @property
    def own(self) -> Attributes | None: ...
