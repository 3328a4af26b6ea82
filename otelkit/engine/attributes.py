"""Takes attributes in: a checked snapshot, in a plain dict where every value is of a simple type and no limit is met.

Whatever is out of the ordinary goes through the API's own BoundedAttributes, so that coercion, truncation and the
count of what was dropped are OpenTelemetry's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import NoneType
from typing import Any

from opentelemetry.attributes import BoundedAttributes

from otelkit.delivery.caps import LONG_TEXT

SIMPLE = frozenset((str, int, bool, float, bytes, NoneType))
"""Types of values that are taken as they are; their subclasses are looked at more closely."""
SIZED = frozenset((str, bytes))
_SHORT = frozenset((int, bool, float, NoneType))
_DEFAULT_MOST = 128
_MOST_KNOWN = 4096
_known: set[str] = set()
"""Keys that were looked at: the same again are told by one look-up each, in C."""

Taken = dict[str, Any] | BoundedAttributes


class AttributeLimits:
    """The most attributes and the longest text of a record; None is without limit.

    `plain` says that no text is ever cut, `tight` that a limit is below OpenTelemetry's default, which the few
    attributes of an instrumentation never meet.
    """

    __slots__ = ("count", "length", "most", "plain", "tight")

    def __init__(self, count: int | None, length: int | None) -> None:
        self.count = count
        self.length = length
        self.most = sys.maxsize if count is None else count
        self.plain = length is None
        self.tight = not self.plain or self.most < _DEFAULT_MOST

    def take(self, attributes: Mapping[str, Any]) -> Taken:
        """A snapshot of attributes, cleaned and within the limits; a plain dict where no text is long (caps.py)."""
        if self.plain:
            taken = dict(attributes)
            if len(taken) <= self.most and (_known.issuperset(taken) or _learnt(taken)):
                for value in taken.values():
                    kind = type(value)
                    if kind is str:
                        if len(value) > LONG_TEXT:
                            break
                    elif kind not in _SHORT:
                        break
                else:
                    return taken
        return self.bounded(attributes)

    def add(self, bounded: BoundedAttributes, attributes: Mapping[Any, Any]) -> None:
        """Adds attributes to those in OpenTelemetry's container, and counts what is dropped."""
        named = {}
        for key, value in attributes.items():
            if isinstance(key, str):
                if key:
                    named[key] = value
            else:
                # Another key becomes its text, or nothing where it has none.
                named.update(dict.fromkeys(BoundedAttributes(None, {key: None}), value))
        bounded.dropped += len(attributes) - len(named)
        for key, value in named.items():
            bounded[key] = value

    def bounded(self, attributes: Mapping[str, Any] | None) -> BoundedAttributes:
        """OpenTelemetry's own container with these limits."""
        return BoundedAttributes(self.count, attributes, immutable=False, max_value_len=self.length)


def _learnt(attributes: Mapping[Any, Any]) -> bool:
    """Whether all of these are keys as they should be; they are known then."""
    for key in attributes:
        if type(key) is not str or not key:
            return False
    if len(_known) + len(attributes) > _MOST_KNOWN:
        _known.clear()
    _known.update(attributes)
    return True
