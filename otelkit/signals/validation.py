"""The texts of validation errors (Pydantic's, FastAPI's), which repeat the values that did not pass: without them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MOST = 10
_KINDS = ("ValidationError", "ValidationException")
_PACKAGES = ("pydantic", "pydantic_core", "fastapi")
_HIDDEN = "[REDACTED]"


def is_validation_error(error: BaseException) -> bool:
    """Whether it is one of those of Pydantic and FastAPI."""
    return any(
        kind.__name__ in _KINDS and kind.__module__.partition(".")[0] in _PACKAGES for kind in type(error).__mro__
    )


def summary(error: BaseException) -> str | None:
    """What did not pass and why, `2 validation errors: body.price (int_parsing), …`; None for every other exception.

    Raises what the exception's own methods raise.
    """
    if not is_validation_error(error):
        return None
    found: list[Any] = list(error.errors())  # type: ignore[attr-defined]
    parts = [f"{'.'.join(map(str, each['loc']))} ({each['type']})" for each in found[:_MOST]]
    if len(found) > _MOST:
        parts.append("…")
    return f"{len(found)} validation error{'s' * (len(found) != 1)}: {', '.join(parts)}"


def without_values(text: str, error: BaseException) -> str:
    """A formatted stack trace in which the texts of validation errors are their summaries."""
    for each in _chain(error):
        short = summary(each)
        if short is None:
            continue
        long = str(each)
        if long in text:
            text = text.replace(long, short)
        else:  # indented: within a group
            for line in long.splitlines():
                if "input" in line:
                    text = text.replace(line.strip(), _HIDDEN)
    return text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception with its causes, contexts and the members of groups."""
    seen: set[int] = set()
    left = [error]
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += [other for other in (each.__cause__, each.__context__) if other is not None]
        left += getattr(each, "exceptions", ())
