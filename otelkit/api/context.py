"""Values bound to the request or task: on every span and log record until it ends."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from opentelemetry.trace import get_current_span

from otelkit.signals import correlation
from otelkit.signals.correlation import Holder, Value


class Binding:
    """What `bind` returns; as a context manager it takes the values back at the end of the block."""

    __slots__ = ("_before", "_holder")

    def __init__(self, holder: Holder, before: dict[str, Value | None]) -> None:
        self._holder = holder
        self._before = before

    def __enter__(self) -> Binding:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._holder.unbind(key for key, value in self._before.items() if value is None)
        self._holder.bind({key: value for key, value in self._before.items() if value is not None})


def bind(**values: Value) -> Binding:
    """Puts values onto every span and log record until the request or task ends, and onto the tasks that it starts.

    `otelkit.bind(user_id=7, tenant="acme")`; `user_id` and `session_id` become `user.id` and `session.id`. The span
    that is current and the request's or task's own get them too. Outside of a request or task they hold in the
    present context until `unbind`. They are never sent to a third party. Values are str, bool, int or float.
    """
    holder = correlation.holder()
    renamed = {correlation.attribute_name(key): value for key, value in values.items()}
    earlier: Mapping[str, Any] = holder.values or {}
    before = {key: earlier.get(key) for key in renamed}
    holder.bind(renamed)
    get_current_span().set_attributes(renamed)
    if holder.entry_span is not None:
        holder.entry_span.set_attributes(renamed)
    return Binding(holder, before)


def unbind(*names: str) -> None:
    """Takes bound values back, all of them without an argument; spans and records that have them keep them."""
    holder = correlation.holder()
    holder.unbind([correlation.attribute_name(name) for name in names] or tuple(holder.values or ()))
