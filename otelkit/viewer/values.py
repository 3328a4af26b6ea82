"""OTLP's attributes as JSON: each distinct one is decoded once and found again by its bytes.

Most attributes of a service repeat (methods, routes, hosts, statements), so that the common case is one look-up. What
is kept is bounded in number and in length.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

from otelkit.delivery.wire import read_fields

_MOST_KEPT = 40_000
_MOST_HEADS = 4_000
_LONGEST_KEPT = 512  # bytes
_DEEPEST = 32
_INT64 = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")

text_json = json.encoder.encode_basestring
"""A text as JSON, not made ASCII: DuckDB compares and searches UTF-8."""


class Malformed(ValueError):
    """Bytes that are no OTLP request."""


class Promoted(str):
    """The JSON of an attribute that has a column of its own too."""

    __slots__ = ("key", "value")

    key: str
    value: Any


class Attributes(dict[bytes, str]):
    """The JSON of a KeyValue by its bytes: `"key":value`. Bounded; threads may share it.

    `promoted` are the keys whose values are wanted besides. Looking up raises Malformed for bytes that are no KeyValue.
    """

    def __init__(self, promoted: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._promoted = promoted
        self._heads: dict[str, str] = {}

    def __missing__(self, encoded: bytes) -> str:
        """Decodes one that is not kept."""
        key, value = _short(encoded) or key_value(encoded)
        head = self._heads.get(key)
        if head is None:
            head = f"{text_json(key)}:"
            if len(self._heads) < _MOST_HEADS:
                self._heads[key] = head
        found = head + (text_json(value) if type(value) is str else json_of(value))
        if key in self._promoted:
            promoted = Promoted(found)
            promoted.key, promoted.value = key, value
            found = promoted
        if len(encoded) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[encoded] = found
        return found


def _short(encoded: bytes) -> tuple[str, str | int] | None:
    """The key and the value where that is a short text or an integer, as nearly all are; None of anything else."""
    size = len(encoded)
    try:
        at = encoded[1] + 2
        # 0A, the key's length, the key, 12, the value's length, its kind, …
        if encoded[0] != 0x0A or at > 129 or encoded[at] != 0x12 or encoded[at + 1] != size - at - 2 or size > at + 129:
            return None
        key = encoded[2:at].decode("utf-8", "replace")
        kind = encoded[at + 2]
        if kind == 0x0A and encoded[at + 3] == size - at - 4:
            return key, encoded[at + 4 :].decode("utf-8", "replace")
        if kind == 0x18:
            number = shift = 0
            for byte in encoded[at + 3 :]:
                number |= (byte & 127) << shift
                shift += 7
            if shift < 63 and byte < 128:
                return key, number
    except IndexError:
        return None
    return None


def key_value(encoded: bytes) -> tuple[str, Any]:
    """The key and the value of a KeyValue message."""
    key, value = "", None
    try:
        for number, content in read_fields(encoded):
            if number == 1 and isinstance(content, bytes):
                key = content.decode("utf-8", "replace")
            elif number == 2 and isinstance(content, bytes):
                value = any_value(content)
    except ValueError as error:
        raise Malformed(f"an attribute: {error}") from None
    return key, value


def any_value(encoded: bytes, depth: int = 0) -> Any:
    """An AnyValue as Python has it: text, bool, int, float, list, dict, base64 text for bytes, None.

    Raises ValueError for bytes that are none.
    """
    if depth > _DEEPEST:
        raise Malformed("a value nested too deeply")
    value: Any = None
    for number, content in read_fields(encoded):
        if isinstance(content, int):
            if number == 2:
                value = bool(content)
            elif number == 3:
                value = content - (1 << 64) if content >= 1 << 63 else content
        elif number == 1:
            value = content.decode("utf-8", "replace")
        elif number == 4:
            if len(content) != 8:
                raise Malformed("a double of another size")
            value = _DOUBLE.unpack(content)[0]
        elif number == 5:
            value = [any_value(each, depth + 1) for n, each in read_fields(content) if n == 1 and type(each) is bytes]
        elif number == 6:
            value = dict(_pair(each, depth) for n, each in read_fields(content) if n == 1 and type(each) is bytes)
        elif number == 7:
            value = base64.b64encode(content).decode()
    return value


def _pair(encoded: bytes, depth: int) -> tuple[str, Any]:
    key, value = "", None
    for number, content in read_fields(encoded):
        if number == 1 and isinstance(content, bytes):
            key = content.decode("utf-8", "replace")
        elif number == 2 and isinstance(content, bytes):
            value = any_value(content, depth + 1)
    return key, value


def json_of(value: Any) -> str:
    """A value as JSON in one line; what JSON has no number for (NaN, infinity) is its text."""
    if isinstance(value, str):
        return text_json(value)
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return value


def object_of(pairs: list[str]) -> str:
    """A JSON object of attributes' JSON; of a key that is there twice JSON's readers take the last."""
    return f"{{{','.join(pairs)}}}"
