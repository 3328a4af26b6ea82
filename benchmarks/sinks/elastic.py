"""What an Elastic APM server takes: a line of JSON an event."""

from __future__ import annotations

import json

from benchmarks.sinks import Count, Counts


def _events(body: bytes, counts: Counts) -> None:
    for line in body.splitlines():
        ((kind, event),) = json.loads(line).items()
        if kind in ("transaction", "span"):
            counts["spans"][event["name"]] += 1
        elif kind == "log":
            counts["logs"][event.get("log.logger", "")] += 1
        elif kind == "metricset":
            counts["points"].update(list(event["samples"]))
        elif kind != "metadata":
            counts["unknown"][kind] += 1


COUNTERS: dict[str, Count] = {"/intake/v2/events": _events}
ANSWERS: dict[str, bytes] = {"/": json.dumps({"version": "8.17.0"}).encode()}
