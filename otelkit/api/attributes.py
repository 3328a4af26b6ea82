"""Attributes as the API takes them: a mapping for dotted keys, keywords for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

AttributeValue = str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]
Attributes = Mapping[str, AttributeValue]


def merged(attributes: Attributes | None, keywords: Attributes) -> Attributes:
    """Both together; a keyword wins over the mapping's entry of the same name."""
    if not attributes:
        return keywords
    return {**attributes, **keywords} if keywords else attributes
