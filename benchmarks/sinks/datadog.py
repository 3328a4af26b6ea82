"""What a Datadog agent takes: traces as MessagePack, version 0.5, whose texts are in one table at the start."""

from __future__ import annotations

import json
import struct
from typing import Any

from benchmarks.sinks import Count, Counts

TRACES = "/v0.5/traces"
_NAME = 1  # the place of a span's name among its twelve values


class Reader:
    """Reads the values of a MessagePack body, one after the other."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def value(self) -> Any:
        """The next value. Raises ValueError for an extension type, which nobody sends."""
        tag = self._take(1)[0]
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 0x100
        if tag < 0x90:
            return self._map(tag & 15)
        if tag < 0xA0:
            return self._list(tag & 15)
        if tag < 0xC0:
            return self._take(tag & 31).decode()
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _NUMBERS:
            return self._number(_NUMBERS[tag])
        for kind, first, formats in _SIZED:
            if first <= tag < first + len(formats):
                return getattr(self, kind)(self._number(formats[tag - first]))
        raise ValueError(f"MessagePack's type {tag:#x}")

    def _take(self, size: int) -> bytes:
        start = self._position
        self._position += size
        return self._body[start : self._position]

    def _number(self, form: str) -> Any:
        return struct.unpack(f">{form}", self._take(struct.calcsize(form)))[0]

    def _text(self, size: int) -> str:
        return self._take(size).decode()

    def _list(self, size: int) -> list[Any]:
        return [self.value() for _ in range(size)]

    def _map(self, size: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(size)}


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = dict(zip(range(0xCA, 0xD4), "fdBHIQbhiq", strict=True))
_SIZED = (("_take", 0xC4, "BHI"), ("_text", 0xD9, "BHI"), ("_list", 0xDC, "HI"), ("_map", 0xDE, "HI"))


def _traces(body: bytes, counts: Counts) -> None:
    texts, traces = Reader(body).value()
    for trace in traces:
        counts["spans"].update(texts[span[_NAME]] for span in trace)


# Taken and not counted: what the library says of itself, and the places in the code that spans come from.
_ASIDE = ("/telemetry/proxy/api/v2/apmtelemetry", "/debugger/v2/input")

COUNTERS: dict[str, Count] = {TRACES: _traces, **dict.fromkeys(_ASIDE, lambda body, counts: None)}
ANSWERS: dict[str, bytes] = {
    "/info": json.dumps({"version": "7.70.0", "endpoints": [TRACES, *_ASIDE]}).encode(),
    TRACES: json.dumps({"rate_by_service": {"service:,env:": 1.0}}).encode(),
}
