"""Encodes attributes as OTLP KeyValues; keys, and values that come again, are encoded once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from otelkit.delivery.caps import cut_text
from otelkit.delivery.records import Attributes, Shared
from otelkit.delivery.wire import pack_double, sized, utf8, varint

V = TypeVar("V")

_CACHED_KEYS = 2048
_CACHED_PAIRS = 8192  # of all keys; some 5 MB where each is as long as may be
_LONGEST_CACHED = 256  # characters of a key, bytes of an encoded pair
_INT64_END = 1 << 63
_REDACTED = sized(b"\x0a", b"[REDACTED]")


class Redaction(Protocol):
    """Which values must not leave the process."""

    def is_secret_key(self, key: str) -> bool:
        """Whether the texts under this key are secrets."""

    def is_secret_text(self, text: str) -> bool:
        """Whether this text is a secret, whatever its key."""


class _Key:
    """A key that was seen: its encoding, and those of its values that come again."""

    __slots__ = ("false", "numbers", "opening", "secret", "size", "texts", "true")

    def __init__(self, key: str, *, secret: bool) -> None:
        self.opening = sized(b"\x0a", utf8(key)) + b"\x12"
        self.size = len(self.opening)
        self.secret = secret
        self.texts: dict[str, bytes] = {}
        self.numbers: dict[int, bytes] = {}
        self.true = self.pair(b"\x10\x01")
        self.false = self.pair(b"\x10\x00")

    def pair(self, value: bytes) -> bytes:
        """The sized KeyValue of an encoded AnyValue."""
        length = varint(len(value))
        return b"".join((varint(self.size + len(length) + len(value)), self.opening, length, value))


class AttributeEncoder:
    """Encodes attributes, with bounded caches; not thread-safe, the worker thread owns it."""

    def __init__(self, redaction: Redaction | None, longest_bytes: int | None = None) -> None:
        self._redaction = redaction
        self._longest = longest_bytes or sys.maxsize
        self.cut = 0
        self._keys: dict[str, _Key] = {}
        self._cached = 0

    def shared(self, tag: bytes, attributes: Shared) -> bytes:
        """The fields of attributes that many records share, encoded at their first use."""
        kept: dict[bytes, bytes] | None = getattr(attributes, "encoded", None)
        if kept is None:
            kept = attributes.encoded = {}
        encoded = kept.get(tag)
        if encoded is None:
            pairs: list[bytes] | None = getattr(attributes, "pairs", None)
            if pairs is None:
                pairs = attributes.pairs = self._pairs(attributes, keep=False)
            encoded = kept[tag] = tag.join(pairs)
        return encoded

    def fields(self, tag: bytes, attributes: Attributes | None) -> bytes:
        """Every attribute as a KeyValue field with this tag."""
        return tag.join(self._pairs(attributes, keep=True)) if attributes else b""

    def of_point(self, tag: bytes, attributes: Attributes | None) -> bytes:
        """The fields of a data point's attributes; those of a series of the engine's are encoded once."""
        return self.shared(tag, attributes) if type(attributes) is Shared else self.fields(tag, attributes)

    def _pairs(self, attributes: Attributes, *, keep: bool) -> list[bytes]:
        """The KeyValues, to be joined by a tag; `keep` them, where the same may come again."""
        keys = self._keys
        pairs = [b""]
        for key, value in attributes.items():
            known = keys.get(key)
            if known is None:
                known = self._key(key)
            kind = type(value)
            if kind is str:
                pair = known.texts.get(value)  # type: ignore[call-overload]
                if pair is None:
                    pair = self._text(known, value, keep)  # type: ignore[arg-type]
            elif kind is int:
                pair = known.numbers.get(value)  # type: ignore[call-overload]
                if pair is None:
                    pair = self._number(known, value, keep)  # type: ignore[arg-type]
            elif kind is bool:
                pair = known.true if value else known.false
            elif kind is float:
                pair = known.pair(b"\x21" + pack_double(value))
            else:
                pair = known.pair(self.value(value, secret=known.secret))
            pairs.append(pair)
        return pairs

    def _key(self, key: str) -> _Key:
        known = _Key(key, secret=self._redaction is not None and self._redaction.is_secret_key(key))
        if len(key) <= _LONGEST_CACHED:
            if len(self._keys) >= _CACHED_KEYS:
                self._keys.clear()
            self._keys[key] = known
        return known

    def _text(self, key: _Key, value: str, keep: bool) -> bytes:
        content = self._string(value, secret=key.secret)
        pair = key.pair(content)
        if keep and content is not _REDACTED:  # a secret is not kept in a cache either
            self._remember(key.texts, value, pair)
        return pair

    def _number(self, key: _Key, value: int, keep: bool) -> bytes:
        pair = key.pair(self.value(value))
        if keep:
            self._remember(key.numbers, value, pair)
        return pair

    def _remember(self, values: dict[V, bytes], value: V, pair: bytes) -> None:
        if len(pair) < _LONGEST_CACHED:
            if self._cached >= _CACHED_PAIRS:
                self._keys.clear()
                self._cached = 0
            values[value] = pair
            self._cached += 1

    def value(self, value: object, *, secret: bool = False) -> bytes:
        """The content of an AnyValue; None is an empty one. Of a `secret` its numbers and its structure are left."""
        if isinstance(value, str):
            return self._string(value, secret=secret)
        if value is None:
            return b""
        if isinstance(value, bool):
            return b"\x10\x01" if value else b"\x10\x00"
        if isinstance(value, int):
            fits = -_INT64_END <= value < _INT64_END
            return b"\x18" + varint(int(value)) if fits else sized(b"\x0a", utf8(str(value)))
        if isinstance(value, float):
            return b"\x21" + pack_double(value)
        if isinstance(value, (bytes, bytearray)):
            if len(value) > self._longest:
                self.cut += 1
                value = value[: self._longest]
            return _REDACTED if secret and value else sized(b"\x3a", bytes(value))
        if isinstance(value, Mapping):
            pairs = (b"\x0a" + self._nested(str(key), item, secret=secret) for key, item in value.items())
            return sized(b"\x32", b"".join(pairs))
        if isinstance(value, (Sequence, set, frozenset)):
            return sized(b"\x2a", b"".join(sized(b"\x0a", self.value(item, secret=secret)) for item in value))
        return self._string(str(value), secret=secret)

    def _string(self, text: str, *, secret: bool) -> bytes:
        if text and (secret or (self._redaction is not None and self._redaction.is_secret_text(text))):
            return _REDACTED
        encoded = utf8(text)
        if len(encoded) > self._longest:
            self.cut += 1
            encoded = utf8(cut_text(text, self._longest))
        return sized(b"\x0a", encoded)

    def _nested(self, key: str, value: object, *, secret: bool) -> bytes:
        known = self._keys.get(key) or self._key(key)
        return known.pair(self.value(value, secret=secret or known.secret))
