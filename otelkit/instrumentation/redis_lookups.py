"""Cache hits and misses: what a read returned, by the prefix of its key where the settings name one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.metrics import Counter

from otelkit import semconv
from otelkit.engine import door

OTHER = "_OTHER"
"""The prefix of what begins with none of those that the settings name."""

Lookup = Callable[[tuple[Any, ...], Any], None]
"""Counts a read's hits and misses, given its arguments and what it returned."""


class Lookups:
    """The counts of one connection pool."""

    __slots__ = ("_named", "_plain", "_prefixes")

    def __init__(self, counter: Counter, attributes: dict[str, Any], prefixes: Sequence[str]) -> None:
        base = {key: value for key, value in attributes.items() if key in semconv.REDIS_CACHE_LOOKUPS.labels}
        self._plain = None if prefixes else _Counts(counter, base)
        self._prefixes = Prefixes(prefixes)
        named = (*prefixes, OTHER) if prefixes else ()
        self._named = {prefix: _Counts(counter, {**base, "redis.key.prefix": prefix}) for prefix in named}

    def of(self, name: str) -> Lookup | None:
        """What counts a command's results; None where it is no read of values."""
        if name not in ("GET", "MGET", "HGET", "HMGET"):
            return None
        if self._plain is not None:
            return self._plain.count
        return self._keys if name == "MGET" else self._key

    def _key(self, args: tuple[Any, ...], result: Any) -> None:
        self._named[self._prefixes.of(args[1])].count(args, result)

    def _keys(self, args: tuple[Any, ...], result: Any) -> None:
        for key, value in zip(args[1:], result, strict=False):
            self._named[self._prefixes.of(key)].count(args, value)


class _Counts:
    """The hits and misses of one prefix, or of all keys."""

    __slots__ = ("_hits", "_misses")

    def __init__(self, counter: Counter, labels: dict[str, Any]) -> None:
        self._hits = door.adds(counter, {**labels, "redis.cache.result": "hit"})
        self._misses = door.adds(counter, {**labels, "redis.cache.result": "miss"})

    def count(self, args: tuple[Any, ...], result: Any) -> None:
        if not isinstance(result, (list, tuple)):
            (self._misses if result is None else self._hits).add(1)
            return
        misses = sum(value is None for value in result)
        if misses:
            self._misses.add(misses)
        if misses < len(result):
            self._hits.add(len(result) - misses)


class Prefixes:
    """Those of the settings; of several that fit the longest is the one."""

    __slots__ = ("_bytes", "_texts")

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._texts = sorted(prefixes, key=len, reverse=True)
        self._bytes = [(prefix.encode(), prefix) for prefix in self._texts]

    def of(self, name: Any) -> str:
        """The prefix of a key's or a channel's name."""
        if isinstance(name, (bytes, bytearray, memoryview)):
            raw = bytes(name)
            return next((prefix for start, prefix in self._bytes if raw.startswith(start)), OTHER)
        text = str(name)
        return next((prefix for prefix in self._texts if text.startswith(prefix)), OTHER)
