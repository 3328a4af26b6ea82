"""The most that one record may weigh: what is longer is cut before it enters the queue, and counted as truncated.

A cap of otelkit's own beside OpenTelemetry's limits, which by default let an attribute be of any length
(OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT is unset): one attribute of 50 MB in each span would fill the memory of the process
long before the queue held its most records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from opentelemetry.trace import Link
from opentelemetry.trace.status import Status

from otelkit.delivery.plain import Counted, PlainDetails, PlainEvent, PlainLog, PlainSpan
from otelkit.delivery.records import LogRecord, SpanDetails, SpanRecord

R = TypeVar("R")
T = TypeVar("T")
C = TypeVar("C")

LONG_TEXT = 1024
"""Characters of a text; a record is light, and not weighed, that has none longer, and few attributes of its own.

The engine sees to it as it takes attributes in (engine/attributes.py): in a plain dict no text is long.
"""
_FEW = 16
_PLACE_BYTES = 64  # of an attribute, an event, an item of a list, beside what is in it


class Caps(NamedTuple):
    """The most bytes (UTF-8) of one text and of one record, its shared attributes aside."""

    value_bytes: int = 64 * 1024
    record_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Heavy(Generic[R]):
    """A record that is not light: as it may enter, its weight in bytes, and how many of its values were cut."""

    record: R
    bytes: int
    cut: int


class Scales:
    """Weighs records, and cuts what is above the caps."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps

    def span(self, span: SpanRecord) -> Heavy[SpanRecord] | None:
        """None for a light span: all but few."""
        own = span.own
        if (
            (own is None or (type(own) is dict and len(own) <= _FEW))
            and span.details is None
            and len(span.name) <= LONG_TEXT
        ):
            return None
        return self._heavy_span(span)

    def log(self, record: LogRecord) -> Heavy[LogRecord] | None:
        """None for a light log record."""
        own, body = record.own, record.body
        if (own is None or (type(own) is dict and len(own) <= _FEW)) and (
            body is None or (type(body) is str and len(body) <= LONG_TEXT)
        ):
            return None
        return self._heavy_log(record)

    def _heavy_span(self, span: SpanRecord) -> Heavy[SpanRecord]:
        room = _Room(self._caps)
        name = room.text(span.name)
        own = room.mapping(span.own) if span.own is not None else None
        details = _cut_details(span.details, room) if span.details is not None else None
        if room.cut:
            span = _copy(PlainSpan, PlainSpan.__slots__, span, name=name, own=own, details=details)
        return Heavy(span, room.used, room.cut)

    def _heavy_log(self, record: LogRecord) -> Heavy[LogRecord]:
        room = _Room(self._caps)
        body = room.value(record.body)
        own = room.mapping(record.own) if record.own is not None else None
        if room.cut:
            record = _copy(PlainLog, PlainLog.__slots__, record, body=body, own=own)
        return Heavy(record, room.used, room.cut)


def cut_text(text: str, most_bytes: int) -> str:
    """The beginning of a text that is at most so long in UTF-8; no character is cut in two."""
    return text[:most_bytes].encode("utf-8", "replace")[:most_bytes].decode("utf-8", "ignore")


class _Room:
    """What is left of one record's bytes."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self.used = 0
        self.cut = 0

    def text(self, text: str) -> str:
        most = self._most()
        size = len(text)
        if size <= most and not text.isascii():
            size = len(text.encode("utf-8", "replace"))
        if size > most:
            self.cut += 1
            text = cut_text(text, most)
            size = most
        self.used += size
        return text

    def _most(self) -> int:
        return min(self._caps.value_bytes, max(0, self._caps.record_bytes - self.used))

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (bytes, bytearray)):
            most = self._most()
            self.cut += len(value) > most
            self.used += min(len(value), most)
            return value[:most]
        if isinstance(value, Mapping):
            return self.mapping(value)
        if isinstance(value, Sequence):
            return tuple(map(self.value, self.items(value)))
        return value

    def mapping(self, attributes: Mapping[str, Any]) -> Counted:
        taken = Counted()
        for key in self.items(attributes):
            taken[self.text(key) if isinstance(key, str) else key] = self.value(attributes[key])
        taken.dropped = getattr(attributes, "dropped", 0) + len(attributes) - len(taken)
        return taken

    def items(self, items: Iterable[T]) -> Iterator[T]:
        """The items that have room."""
        for item in items:
            if self.used >= self._caps.record_bytes:
                self.cut += 1
                return
            self.used += _PLACE_BYTES
            yield item


def _cut_details(details: SpanDetails, room: _Room) -> PlainDetails:
    status = details.status
    if status.description:
        status = Status(status.status_code, room.text(status.description))
    events = [
        PlainEvent(
            room.text(event.name), event.timestamp, room.mapping(event.attributes or {}), event.dropped_attributes
        )
        for event in room.items(details.events)
    ]
    links = [Link(link.context, room.mapping(link.attributes or {})) for link in room.items(details.links)]
    return PlainDetails(
        status,
        events,
        links,
        details.dropped_events + len(details.events) - len(events),
        details.dropped_links + len(details.links) - len(links),
    )


def _copy(kind: Callable[..., C], names: Iterable[str], record: object, **changed: object) -> C:
    return kind(**{name: getattr(record, name, None) for name in names if name not in changed}, **changed)
