"""The critical path of a trace: what had to be faster for the whole to be faster."""

from __future__ import annotations

from typing import Any


def critical_path(spans: list[dict[str, Any]]) -> set[bytes]:
    """The ids of the spans on it, from the longest root backwards in time.

    From a span's end on, the child that ended last before there is on the path, and what went before that child's start
    is looked for in the same way. Spans whose parents are missing count as roots, those in a cycle are on no path.
    """
    by_id = {span["span_id"]: span for span in spans}
    children: dict[bytes, list[dict[str, Any]]] = {}
    roots = []
    for span in spans:
        parent = span["parent_id"]
        if parent in by_id:
            children.setdefault(parent, []).append(span)
        else:
            roots.append(span)
    if not roots:
        return set()
    found: set[bytes] = set()
    root = max(roots, key=lambda span: span["duration_ns"])
    pending = [(root, root["start_ns"] + root["duration_ns"])]
    while pending:
        span, until = pending.pop()
        if span["span_id"] in found:
            continue
        found.add(span["span_id"])
        below = sorted(
            children.get(span["span_id"], ()), key=lambda child: child["start_ns"] + child["duration_ns"], reverse=True
        )
        for child in below:
            end = child["start_ns"] + child["duration_ns"]
            if end <= until or child is below[0]:
                pending.append((child, min(end, until)))
                until = child["start_ns"]
            if until <= span["start_ns"]:
                break
    return found
