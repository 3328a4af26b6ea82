"""How each sending process is: its ledger, its versions, and who instruments what and why.

A process is told apart by its service and its `service.instance.id`. What it says of itself in the event
`otelkit.status` is taken as it is (told.py); without one, its own metrics tell its ledger, and the scopes of its spans
who made them. Senders other than otelkit have no ledger.
"""

from __future__ import annotations

import json
from typing import Any

from otelkit import semconv
from otelkit.delivery.telling import STATUS_EVENT
from otelkit.viewer.reading.asking import Cursor, ms
from otelkit.viewer.reading.told import Told, told

_MOST_PROCESSES = 200
_NEWEST_BLOCKS = 80  # 20,000 spans or more
_RESOURCES = f"""
    SELECT r.id, r.service, r.attributes, min(r.first_ns) AS first_ns, max(s.last_ns) AS last_ns
    FROM viewer.resources r JOIN viewer.seen s ON s.resource = r.id GROUP BY ALL ORDER BY last_ns DESC
    LIMIT {4 * _MOST_PROCESSES}
"""
_STATUS = f"""
    SELECT resource, arg_max(body, time_ns) AS body, max(time_ns) AS time_ns
    FROM viewer.logs WHERE event_name = '{STATUS_EVENT}' AND body LIKE '{{%' GROUP BY resource
"""
_LEDGER = """
    SELECT s.resource, s.name, s.labels, arg_max(p.value, p.time_ns) AS value, min(p.start_ns) AS start_ns
    FROM viewer.points p JOIN (SELECT DISTINCT series, resource, name, labels FROM viewer.series WHERE name IN (?, ?)) s
    USING (series) WHERE p.name IN (?, ?) GROUP BY ALL
"""
_SCOPES = f"""
    SELECT DISTINCT resource, scope FROM viewer.spans
    WHERE block > (SELECT max(block) FROM viewer.spans) - {_NEWEST_BLOCKS}
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
    owner: dict[int, tuple[str, str]] = {}
    for row in cursor.rows(_RESOURCES):
        attributes = json.loads(row["attributes"])
        instance = str(attributes.get("service.instance.id") or row["id"])
        owner[row["id"]] = key = (str(row["service"]), instance)
        _describe(processes.setdefault(key, _process(*key)), attributes, row)
    states = {
        owner[row["resource"]]: state
        for row in cursor.rows(_STATUS)
        if row["resource"] in owner and (state := told(row["body"], row["time_ns"])) is not None
    }
    names = [semconv.OTELKIT_RECORDS.name, semconv.OTELKIT_SPOOL_RECORDS.name]
    for row in cursor.rows(_LEDGER, [*names, *names]):
        if (whose := owner.get(row["resource"])) is not None and whose not in states:
            _count(processes[whose]["ledger"], row)
    for row in cursor.rows(_SCOPES):
        if (whose := owner.get(row["resource"])) is not None and row["scope"]:
            _instrumented(processes[whose]["instrumented"], row["scope"], only_application=whose in states)
    for key, state in states.items():
        _tell(processes[key], state)
    # Metrics are of a group of processes, each of which tells of itself.
    groups = {(service, state.metrics_instance) for (service, _), state in states.items()}
    found = [process for key, process in processes.items() if key in states or key not in groups]
    return {"processes": found[:_MOST_PROCESSES]}


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
        "told_ms": None,
        "ended": False,
        "ledger": {},
        "spool": None,
        "failures": {},
        "instrumented": [],
    }


def _tell(process: dict[str, Any], state: Told) -> None:
    process["told_ms"] = ms(state.time_ns)
    process["ended"] = state.ends
    process["ledger"] = state.ledger
    process["spool"] = state.spool
    process["failures"] = state.failures
    process["instrumented"][:0] = state.instrumented
    process["versions"].update(state.versions)


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
    """Adds a series: what was accepted is what is accounted for; what waits in memory metrics do not tell."""
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


def _instrumented(found: list[dict[str, Any]], scope: str, *, only_application: bool) -> None:
    if scope.startswith(_CONTRIB):
        library, by = scope.removeprefix(_CONTRIB).partition(".")[0], "contrib"
    elif scope.startswith("otelkit."):
        library, by = scope.removeprefix("otelkit.").rpartition(".")[2], "otelkit"
    else:
        library, by = scope, "application"
    if only_application and by != "application":
        return
    if not any(each["library"] == library and each["by"] == by for each in found):
        found.append({"library": library, "by": by, "why": f"its spans are of the scope {scope}"})
