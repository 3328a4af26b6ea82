"""What a process says of its telemetry: the body of the event `otelkit.status` (docs/delivery.md).

It came over the network: whatever is not as it should be is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MOST = 200
_REASONS = {
    "otelkit": "the default where otelkit knows the library",
    "contrib": "otelkit has none of its own, and OpenTelemetry's package is installed",
}


@dataclass(frozen=True)
class Told:
    """`spool` is what keeps it from being written, empty: nothing, None: it is off."""

    time_ns: int
    ends: bool
    ledger: dict[str, dict[str, Any]]
    instrumented: list[dict[str, str]]
    metrics_instance: str
    spool: str | None
    failures: dict[str, int]
    versions: dict[str, str]


def told(body: str, time_ns: int) -> Told | None:
    """What the body says; None for one that says nothing."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("ledger"), dict):
        return None
    spool = found.get("spool")
    return Told(
        time_ns=time_ns,
        ends=found.get("ends") is True,
        ledger={signal: _account(account) for signal, account in _mappings(found["ledger"])},
        instrumented=[_library(name, library) for name, library in _mappings(found.get("libraries"))],
        metrics_instance=_text(found.get("metrics_instance")),
        spool=None if spool is None else _text(spool),
        failures=_numbers(found.get("failures")),
        versions={
            name.removeprefix("opentelemetry-"): text
            for name, value in _items(found.get("versions"))
            if (text := _text(value))
        },
    )


def _account(account: Mapping[str, Any]) -> dict[str, Any]:
    numbers = _numbers(account)
    return {
        "accepted": numbers.get("accepted", 0),
        "delivered": numbers.get("delivered", 0),
        "dropped": _numbers(account.get("dropped")),
        "queued": numbers.get("in_memory"),
        "spooled": numbers.get("spooled", 0),
    }


def _library(name: str, library: Mapping[str, Any]) -> dict[str, str]:
    by, version = _text(library.get("choice")), _text(library.get("version"))
    why = _text(library.get("reason")) or _REASONS.get(by, "")
    waits = "" if by == "off" or library.get("active") is True else "not imported yet"
    return {"library": f"{name} {version}".strip(), "by": by, "why": "; ".join(filter(None, (why, waits)))}


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items())[:_MOST] if isinstance(value, dict) else []


def _mappings(value: object) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, part) for name, part in _items(value) if isinstance(part, dict)]


def _numbers(value: object) -> dict[str, int]:
    return {name: part for name, part in _items(value) if type(part) is int}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
