"""Sentry's envelopes: lines of JSON, a header and then items, each with a header of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.sinks import Count, Counts

PROJECT = "1"  # a part of the path


def _items(body: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each item's header and payload."""
    position = body.index(b"\n") + 1
    while position < len(body):
        end = body.index(b"\n", position)
        header = json.loads(body[position:end])
        payload = body[end + 1 : end + 1 + header["length"]]
        position = end + 1 + header["length"] + 1
        yield header, payload


def _envelope(body: bytes, counts: Counts) -> None:
    for header, payload in _items(body):
        kind = header["type"]
        if kind == "transaction":
            transaction = json.loads(payload)
            # Descriptions have the values of keys in them: their names would be endless.
            counts["spans"].update(span["op"] for span in (transaction["contexts"]["trace"], *transaction["spans"]))
        elif kind == "log":
            for log in json.loads(payload)["items"]:
                counts["logs"][log["attributes"]["logger.name"]["value"]] += 1
        elif kind == "trace_metric":
            counts["points"].update(metric["name"] for metric in json.loads(payload)["items"])
        else:
            counts["unknown"][kind] += 1


COUNTERS: dict[str, Count] = {f"/api/{PROJECT}/envelope/": _envelope}
