"""Looks for attributes in what was captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Attributes = Mapping[str, object]


def wanted(attributes: Attributes | None, keywords: Attributes) -> Attributes:
    """A mapping (for dotted keys) and keywords, together."""
    return {**(attributes or {}), **keywords}


def carries(attributes: Attributes | None, sought: Attributes) -> bool:
    """Whether all of these are there with these values; a list equals the tuple that it was recorded as."""
    found = attributes or {}
    return all(key in found and _plain(found[key]) == _plain(value) for key, value in sought.items())


def shown(attributes: Attributes | None) -> str:
    """`{a=1, b=2}`, or nothing."""
    pairs = ", ".join(f"{key}={value}" for key, value in sorted((attributes or {}).items()))
    return f"{{{pairs}}}" if pairs else ""


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else value
