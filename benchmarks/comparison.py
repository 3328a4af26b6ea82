"""The tables of a comparison: what each peer adds, how otelkit stands to the best of them, and what arrived."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.peers import peer
from benchmarks.report import Spread, table
from benchmarks.rounds import Comparison
from benchmarks.sinks import KINDS

# Spans are named after the database, which has another folder in every run.
_FOLDER = re.compile(r"\S*/otelkit-bench-[^/]*/")
_OURS = ("otelkit", "otelkit_sdk", "otelkit_1pct", "otelkit_recorder")


def best_peer(result: Comparison) -> str | None:
    """The one with the smallest added CPU, whichever signals it sends; None where nothing was compared."""
    added = {
        name: statistics.median(result.added_us(name))
        for name in result.peers()
        if name not in ("none", *_OURS) and result.added_us(name)
    }
    return min(added, key=added.__getitem__, default=None)


def shown(result: Comparison) -> str:
    """The table of a workload, and how otelkit stands to the best peer."""
    unit = result.workload.unit
    best = best_peer(result)
    rows = [_row(result, name, best) for name in result.peers()]
    rows += [(peer(name).title, f"error: {why.splitlines()[0]}", *[""] * 5) for name, why in result.failures.items()]
    figures = (f"CPU us/{unit}", "added", "times the best peer's")
    head = (result.workload.title, *figures, f"spans/{unit}", f"logs/{unit}", "points an export")
    lines = [table(head, rows)]
    if best is not None:
        lines.append(f"Best peer: {peer(best).title}.")
        lines += [_standing(result, name, best) for name in _OURS if result.added_us(name)]
    if result.added_us("otelkit_1pct") and result.added_us("otelkit"):
        lines.append(_standing(result, "otelkit_1pct", "otelkit"))
    if result.added_us("otelkit_recorder") and result.added_us("otelkit"):
        lines.append(_standing(result, "otelkit_recorder", "otelkit"))
    return "\n\n".join(lines)


def _row(result: Comparison, name: str, best: str | None) -> tuple[str, ...]:
    runs = result.of(name)
    added = result.added_us(name) if name != "none" else []
    done = sum(each.count for each in runs)
    return (
        peer(name).title,
        Spread.of(each.cpu_us for each in runs).shown(),
        Spread.of(added).shown() if added else "",
        f"{statistics.median(_ratios(result, name, best)):.2f}" if added and best else "",
        f"{sum(each.arrived('spans') for each in runs) / done:.4g}",
        f"{sum(each.arrived('logs') for each in runs) / done:.4g}",
        f"{statistics.median(each.arrived('points') for each in runs):.0f}",
    )


def _ratios(result: Comparison, name: str, other: str) -> list[float]:
    """What a peer adds, as a share of what the other one adds in the same round."""
    return [mine / theirs for mine, theirs in zip(result.added_us(name), result.added_us(other), strict=True)]


def _standing(result: Comparison, name: str, other: str) -> str:
    ratio = Spread.of(_ratios(result, name, other)).shown(2)
    return f"{peer(name).title} adds {ratio} times what {peer(other).title} adds."


def peers_table(results: Sequence[Comparison], versions: Mapping[str, str]) -> str:
    """What each peer is, and what it does not send."""
    rows = ((peer(name).title, versions.get(name, ""), peer(name).lacks) for name in compared_peers(results))
    return table(("peer", "version", "lacks"), rows)


def arrivals(results: Sequence[Comparison]) -> str:
    """The names of what each peer sent."""
    lines = []
    for name in compared_peers(results):
        lines.append(f"{peer(name).title}")
        for kind in (*KINDS, "unknown"):
            found = {key for result in results for each in result.of(name) for key in each.received[kind]}
            names = sorted({_FOLDER.sub("", each) for each in found})
            if names or kind != "unknown":
                lines.append(f"  {kind}: {', '.join(names) or 'none'}")
    return "\n".join(lines)


def compared_peers(results: Sequence[Comparison]) -> list[str]:
    """The peers that have a figure in any of these."""
    return list(dict.fromkeys(name for result in results for name in result.peers()))
