"""How each sending process is: its ledger, as its own metrics tell it, its versions, and who instruments it.

A process is told apart by its service and its `service.instance.id`. Senders other than otelkit have no ledger.
"""

from __future__ import annotations

import json
from typing import Any

from otelkit import semconv
from otelkit.viewer.reading.asking import Cursor, ms

_MOST_PROCESSES = 200
_NEWEST_SPANS = 20_000
_RESOURCES = f"""
    SELECT r.id, r.service, r.attributes, min(r.first_ns) AS first_ns, max(s.last_ns) AS last_ns
    FROM viewer.resources r JOIN viewer.seen s ON s.resource = r.id GROUP BY ALL ORDER BY last_ns DESC
    LIMIT {4 * _MOST_PROCESSES}
"""
_LEDGER = """
    SELECT s.resource, s.name, s.labels, arg_max(p.value, p.time_ns) AS value, min(p.start_ns) AS start_ns
    FROM viewer.points p JOIN (SELECT DISTINCT series, resource, name, labels FROM viewer.series WHERE name IN (?, ?)) s
    USING (series) WHERE p.name IN (?, ?) GROUP BY ALL
"""
_SCOPES = f"""
    SELECT DISTINCT resource, scope FROM
    (SELECT resource, scope FROM viewer.spans ORDER BY start_ns DESC LIMIT {_NEWEST_SPANS})
"""
_CONTRIB = "opentelemetry.instrumentation."
_VERSIONS = {
    "python": "process.runtime.version",
    "sdk": "telemetry.sdk.version",
    "otelkit": "telemetry.distro.version",
    "service": "service.version",
}


def health(cursor: Cursor) -> dict[str, Any]:
    """The processes, the one that was heard of last first."""
    processes: dict[tuple[str, str], dict[str, Any]] = {}
    owner: dict[int, dict[str, Any]] = {}
    for row in cursor.rows(_RESOURCES):
        attributes = json.loads(row["attributes"])
        instance = str(attributes.get("service.instance.id") or row["id"])
        process = processes.setdefault((row["service"], instance), _process(row["service"], instance))
        owner[row["id"]] = process
        _describe(process, attributes, row)
    names = [semconv.OTELKIT_RECORDS.name, semconv.OTELKIT_SPOOL_RECORDS.name]
    for row in cursor.rows(_LEDGER, [*names, *names]):
        if row["resource"] in owner:
            _count(owner[row["resource"]]["ledger"], row)
    for row in cursor.rows(_SCOPES):
        if row["resource"] in owner and row["scope"]:
            _instrumented(owner[row["resource"]]["instrumented"], row["scope"])
    return {"processes": list(processes.values())[:_MOST_PROCESSES]}


def _process(service: str, instance: str) -> dict[str, Any]:
    return {
        "service": service,
        "instance": instance,
        "pid": None,
        "host": None,
        "language": None,
        "sdk": None,
        "versions": {},
        "started_ms": None,
        "last_ms": None,
        "ledger": {},
        "instrumented": [],
    }


def _describe(process: dict[str, Any], attributes: dict[str, Any], row: dict[str, Any]) -> None:
    process["pid"] = process["pid"] or attributes.get("process.pid")
    process["host"] = process["host"] or attributes.get("host.name")
    process["language"] = process["language"] or attributes.get("telemetry.sdk.language")
    process["sdk"] = process["sdk"] or attributes.get("telemetry.distro.name") or attributes.get("telemetry.sdk.name")
    for name, key in _VERSIONS.items():
        if key in attributes:
            process["versions"].setdefault(name, str(attributes[key]))
    first, last = ms(row["first_ns"]) or 0.0, ms(row["last_ns"]) or 0.0
    process["started_ms"] = min(process["started_ms"] or first, first)
    process["last_ms"] = max(process["last_ms"] or last, last)


def _count(ledger: dict[str, Any], row: dict[str, Any]) -> None:
    """Adds a series: what was accepted is what is accounted for; what waits in memory the sender does not tell."""
    labels = json.loads(row["labels"])
    signal, count = labels.get("otelkit.signal"), int(row["value"] or 0)
    if signal is None:
        return
    account = ledger.setdefault(signal, {"accepted": 0, "delivered": 0, "dropped": {}, "queued": None, "spooled": 0})
    account["accepted"] += count
    if row["name"] == semconv.OTELKIT_SPOOL_RECORDS.name:
        account["spooled"] += count
    elif labels.get("otelkit.outcome") == "dropped":
        reason = labels.get("otelkit.reason", "unknown")
        account["dropped"][reason] = account["dropped"].get(reason, 0) + count
    else:
        account["delivered"] += count


def _instrumented(found: list[dict[str, Any]], scope: str) -> None:
    if scope.startswith(_CONTRIB):
        library, by = scope.removeprefix(_CONTRIB).partition(".")[0], "contrib"
    elif scope.startswith("otelkit."):
        library, by = scope.removeprefix("otelkit.").rpartition(".")[2], "otelkit"
    else:
        library, by = scope, "application"
    if not any(each["library"] == library and each["by"] == by for each in found):
        found.append({"library": library, "by": by, "why": f"its spans are of the scope {scope}"})
