"""Which other telemetry there is in this process, for the line at the start and for `otelkit.status`.

What only lies beside is named and left alone. What takes records away, a provider that nothing can be attached to, is a
WARNING: nobody would look for the spans in another product.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from opentelemetry import _logs, metrics, trace

from otelkit.config.settings import SIGNALS
from otelkit.runtime import guard
from otelkit.versions import installed_version

State = Literal["absent", "installed", "imported", "active"]


class Neighbour(NamedTuple):
    """Another telemetry library: `imported` by this process, `active` in it; `note` says what that means here."""

    name: str
    version: str | None
    state: State
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}={self.state}" + (f" ({self.note})" if self.note else "")


def neighbours() -> Iterator[Neighbour]:
    """All that are known of, also those that are absent."""
    for name, module, look in _KNOWN:
        version = installed_version(name)
        if module in sys.modules:
            yield _imported(name, version, look)
        else:
            yield Neighbour(name, version, "absent" if version is None else "installed")


def _imported(name: str, version: str | None, look: Callable[[], str | None]) -> Neighbour:
    note = None
    with guard.guarded(f"the look at {name}"):
        note = look()
    return Neighbour(name, version, "imported" if note is None else "active", note or "")


def described() -> dict[str, dict[str, Any]]:
    """The same as plain data."""
    return {
        found.name: {key: value for key, value in found._asdict().items() if key != "name"} for found in neighbours()
    }


def summary() -> str:
    """Those that are in this process, for the line at the start; empty where nobody is."""
    found = [
        str(_imported(name, installed_version(name), look)) for name, module, look in _KNOWN if module in sys.modules
    ]
    return f"; beside {', '.join(found)}" if found else ""


def taken() -> Iterator[str]:
    """A sentence for each signal whose provider is none of the SDK's: records go there, and otelkit gets none."""
    there = (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider())
    for signal, provider in zip(SIGNALS, there, strict=True):
        kind = type(provider)
        if kind.__module__.partition(".")[0] not in ("opentelemetry", "otelkit") and not _of_the_sdk(kind):
            owner = kind.__module__.partition(".")[0]
            remedy = _REMEDY.get(owner, "Call otelkit.bootstrap before it is set")
            yield (
                f"the provider of {signal} is {owner}'s ({kind.__module__}.{kind.__qualname__}), and nothing can be"
                f" attached to it: otelkit exports no {signal}. {remedy}"
            )


def _of_the_sdk(kind: type) -> bool:
    return any(base.__module__.startswith("opentelemetry.sdk.") for base in kind.__mro__)


# -- how to see whether somebody is at work: None for no, else a note, which may be empty


def _sentry() -> str | None:
    client = sys.modules["sentry_sdk"].get_client()
    if not client.is_active():
        return None
    options = client.options
    if options.get("traces_sample_rate") or options.get("traces_sampler"):
        return "its own traces are on: each records the requests for itself"
    return "errors"


def _ddtrace() -> str | None:
    if "ddtrace.bootstrap.sitecustomize" in sys.modules or "ddtrace.auto" in sys.modules:
        return "it records the libraries for itself too"
    return None


def _logfire() -> str | None:
    return "" if type(trace.get_tracer_provider()).__module__.startswith("logfire") else None


def _distro() -> str | None:
    return None


_KNOWN: tuple[tuple[str, str, Callable[[], str | None]], ...] = (
    ("sentry-sdk", "sentry_sdk", _sentry),
    ("ddtrace", "ddtrace", _ddtrace),
    ("logfire", "logfire", _logfire),
    ("opentelemetry-distro", "opentelemetry.distro", _distro),
)
"""Distribution, module, and how to see whether it is at work."""

_REMEDY = {
    "ddtrace": "Unset DD_TRACE_OTEL_ENABLED",
    "logfire": "Call otelkit.bootstrap before logfire.configure",
}
