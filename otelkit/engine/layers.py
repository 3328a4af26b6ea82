"""The attributes of a span in three layers, so that most of them are neither copied nor encoded for each span.

`shared` (those of a statement, a route, a task: made once by an instrumentation), `bound` (those of the request or
task) and `own`. No key is in two of them. What is out of the ordinary (a limit that is met, a type that must be
coerced, a key of a layer that is set anew) puts everything into `own`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from otelkit.delivery.caps import LONG_TEXT
from otelkit.delivery.records import Shared
from otelkit.engine.attributes import SIMPLE, SIZED, Taken
from otelkit.runtime import guard

if TYPE_CHECKING:
    from otelkit.engine.tracing import Tracing

logger = logging.getLogger("otelkit.engine")

_NONE: Mapping[str, Any] = MappingProxyType({})
_MANY = 32  # attributes of a layer; so many of each are far from OpenTelemetry's default limit


class Layers:
    """The part of a span that knows its attributes; the span has the slots."""

    end_time: int | None
    shared: Shared | None
    bound: Shared | None
    own: Taken | None
    _tracing: Tracing

    def set_attribute(self, key: str, value: Any) -> None:
        if self.end_time is not None:
            late("set_attribute")
            return
        own = self.own
        tracing = self._tracing
        if (
            type(own) is dict
            and type(value) in SIMPLE
            and (type(value) not in SIZED or len(value) <= LONG_TEXT)
            and type(key) is str
            and key
            and self.shared is None
            and self.bound is None
            and tracing.span_attributes.plain
            and (len(own) < tracing.span_attributes.most or key in own)
        ):
            if key in own:
                del own[key]  # the newest stands last, as in the SDK
            own[key] = value
            return
        try:
            if isinstance(key, str):
                self._add({key: value})
            else:
                self._bounded().dropped += 1
        except Exception:  # noqa: BLE001 - a value that cannot be read must not fail the application
            guard.report("an attribute of a span")

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        if self.end_time is not None:
            late("set_attributes")
            return
        try:
            if attributes:
                self._add(attributes)
        except Exception:  # noqa: BLE001 - as above
            guard.report("the attributes of a span")

    def _add(self, attributes: Mapping[str, Any]) -> None:
        limits = self._tracing.span_attributes
        own = self.own
        if own is None or type(own) is dict:
            taken = limits.take(attributes)
            if type(taken) is dict:
                if own is None and not self._layered(taken):
                    self.own = taken
                    return
                if own is not None and not self._layered({**own, **taken}):
                    for key in taken:
                        own.pop(key, None)  # the newest stands last, as in the SDK
                    own.update(taken)
                    return
                merged = self._merged()
                for key in taken:
                    merged.pop(key, None)
                merged.update(taken)
                if len(merged) <= limits.most:
                    self.own = merged
                    self.shared = self.bound = None
                    return
        limits.add(self._bounded(), attributes)

    def lay(self, shared: Shared | None, own: Taken | None, bound: Shared | None) -> None:
        """Sets the layers of a new span; `shared` and `own` have no key in common."""
        self.shared = shared
        self.own = own
        self.bound = bound
        tight = self._tracing.span_attributes.tight
        if bound is not None:
            keys = bound.keys()
            if (
                tight
                or len(bound) > _MANY
                or not ((own is None or keys.isdisjoint(own)) and (shared is None or keys.isdisjoint(shared)))
                or (own is not None and len(own) > _MANY)
            ):
                self.settle()
        elif tight and shared is not None:
            self.settle()

    def settle(self) -> None:
        """Sets the layers right after one of them was set: no key in two of them, and all of them within the limits."""
        own, shared, bound = self.own, self.shared, self.bound
        limits = self._tracing.span_attributes
        if self._layered(own or _NONE) or not (shared is None or bound is None or shared.keys().isdisjoint(bound)):
            merged = self._merged()
            if limits.plain and (own is None or type(own) is dict) and len(merged) <= limits.most:
                self.own = merged
                self.shared = self.bound = None
                return
        elif limits.plain:
            return
        self._bounded()

    def _layered(self, attributes: Mapping[str, Any]) -> bool:
        """Whether one of these keys is in a layer below `own`, or the layers come near the limit."""
        count = len(attributes)
        for layer in (self.shared, self.bound):
            if layer is not None:
                if not layer.keys().isdisjoint(attributes):
                    return True
                count += len(layer)
        return count > self._tracing.span_attributes.most

    def _merged(self) -> dict[str, Any]:
        return {**(self.bound or _NONE), **(self.shared or _NONE), **(self.own or _NONE)}

    def _bounded(self) -> Any:
        """The attributes in OpenTelemetry's own container, which every oddity goes through."""
        own = self.own
        if own is None or type(own) is dict or self.shared is not None or self.bound is not None:
            dropped = getattr(own, "dropped", 0)
            own = self._tracing.span_attributes.bounded(self._merged())
            own.dropped += dropped
            self.own = own
            self.shared = self.bound = None
        return own

    @property
    def attributes(self) -> Mapping[str, Any]:
        return MappingProxyType(self._merged())

    @property
    def dropped_attributes(self) -> int:
        return getattr(self.own, "dropped", 0)


lateness_is_told = True
"""False once the process ends, and its open spans with it."""


def late(what: str) -> None:
    """Says that a span that has ended was changed."""
    if lateness_is_told:
        logger.warning("%s on a span that has ended does nothing", what)
