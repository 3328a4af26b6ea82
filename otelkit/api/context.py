"""Values bound to the request or task: on every span and log record until it ends."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from opentelemetry.trace import get_current_span

from otelkit.signals import correlation
from otelkit.signals.correlation import Holder, Scope, Value


class Binding:
    """What `bind` returns; as a context manager it takes the values back at the end of the block."""

    __slots__ = ("_before", "_holder", "_scope", "_values")

    def __init__(self, holder: Holder | Scope, values: Mapping[str, Value]) -> None:
        self._before = {name: holder.bound(name) for name in values}
        self._holder = holder
        self._values = values
        self._scope: Scope | None = None
        holder.bind(values)

    def __enter__(self) -> Binding:
        # Until now they were the request's. What somebody else has bound meanwhile is his.
        holder = self._holder
        for name, before in self._before.items():
            if holder.bound(name) is self._values[name]:
                holder.restore(name, before)
        self._scope = Scope(holder, self._values)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._scope is not None:
            self._scope.close()


def bind(**values: Value) -> Binding:
    """Puts values onto every span and log record until the request or task ends, and onto the tasks that it starts.

    `otelkit.bind(user_id=7, tenant="acme")`; `user_id` and `session_id` become `user.id` and `session.id`. The span
    that is current and the request's or task's own get them too. Outside of a request or task they hold in the
    present context until `unbind`.

    `with otelkit.bind(step="payment"):` holds for the block, and for the tasks and threads that are started in it;
    blocks of tasks that run at the same time know nothing of each other.

    Bound values are never sent to a third party. They are str, bool, int or float.
    """
    holder = correlation.holder()
    renamed = {correlation.attribute_name(key): value for key, value in values.items()}
    binding = Binding(holder, renamed)
    get_current_span().set_attributes(renamed)
    if holder.entry_span is not None:
        holder.entry_span.set_attributes(renamed)
    return binding


def unbind(*names: str) -> None:
    """Takes bound values back, all of them without an argument; spans and records that have them keep them."""
    holder = correlation.holder()
    holder.unbind([correlation.attribute_name(name) for name in names] or tuple(holder.values or ()))
