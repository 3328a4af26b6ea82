"""What is decided when a request comes in: whose trace it continues, and whether it is recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, get_current_span

from otelkit.config.settings import Settings
from otelkit.engine.context import SPAN_KEY, variable
from otelkit.engine.seams import propagate
from otelkit.instrumentation.callers import Callers
from otelkit.instrumentation.routes import Scope
from otelkit.signals.suppression import ALWAYS, at_rate

_PARAMETER = re.compile(r"\\\{(\w+)(:\w+)?\\\}|\\\*")


class _Headers(Getter[Mapping[str, str]]):
    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        value = carrier.get(key)
        return None if value is None else [value]

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        return list(carrier)


_getter = _Headers()


class Admission:
    """By the settings; `decides` says whether they ask for more than the sampler's answer."""

    def __init__(self, settings: Settings) -> None:
        self._callers = Callers(settings.trusted_callers)
        force = settings.sampling_force_header
        self.force = force.encode("latin-1") if force is not None else None
        self._rates = [(_pattern(path), at_rate(rate)) for path, rate in settings.sampling_routes.items()]
        self.decides = bool(self._rates) or self.force is not None

    def context(self, scope: Scope, base: Context | None) -> tuple[Context | None, tuple[Link, ...]]:
        """The context that a request with a caller's context begins in, and its links.

        Of a caller that is not trusted a link to its span is kept and nothing else, no baggage either.
        """
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self._callers.trusts(scope):
            return propagate.extract(headers, base, getter=_getter), ()
        theirs = get_current_span(propagate.extract(headers, Context(), getter=_getter)).get_span_context()
        return base, (Link(theirs),) if theirs.is_valid else ()

    def bound(self, scope: Scope, context: Context | None) -> int | None:
        """What decides in the sampler's place: a trusted caller's wish, else a route's rate where a trace begins."""
        if self.force is not None and self._is_forced(scope):
            return ALWAYS
        if not self._rates or SPAN_KEY in (variable.get() if context is None else context):
            return None
        path, root = scope["path"], scope.get("root_path", "")
        path = path[len(root) :] if path.startswith(root) else path
        return next((bound for pattern, bound in self._rates if pattern.fullmatch(path)), None)

    def _is_forced(self, scope: Scope) -> bool:
        return (self.force, b"1") in ((name, value) for name, value in scope["headers"]) and self._callers.trusts(scope)


def _pattern(path: str) -> re.Pattern[str]:
    """A template of a route: `{name}` is a segment, `{name:path}` and `*` are anything."""
    return re.compile(
        _PARAMETER.sub(lambda found: "[^/]+" if found[1] and found[2] != ":path" else ".*", re.escape(path))
    )
