"""What a soak has found, whether that is good enough, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.peers import peer
from benchmarks.report import slope, table
from benchmarks.soak.balance import Balance
from otelkit.config.settings import SIGNALS, Signal

_MB = 1_000_000
_TEN_MINUTES_S = 600.0
_MOST_GROWTH_MB = 1.0
_KINDS: Mapping[Signal, str] = {"traces": "spans", "logs": "log records", "metrics": "points"}


class Sample(NamedTuple):
    """At one time: resident bytes of the process that is never restarted, and bytes of the spool's folder."""

    at_s: float
    resident: int
    spool: int


@dataclass(frozen=True)
class Result:
    """One peer's soak. `again` counts records that arrived once more, `uncounted` those that the program made and no
    ledger accepted; `left_by_the_killed` and `reported` say by pid what was in memory at a SIGKILL, and what the next
    start said was lost.
    """

    peer: str
    seconds: float
    services: Mapping[str, Mapping[Signal, Balance]]
    again: int
    uncounted: int
    stopped: int
    killed: int
    longest_ending_s: float
    left_by_the_killed: Mapping[int, int]
    reported: Mapping[int, int]
    left_on_disk: int
    fds_warm: int
    fds_end: int
    spool_cap: int
    samples: Sequence[Sample]

    @property
    def growth_mb(self) -> float:
        """Megabytes in ten minutes by which the long-lived process grows, over the last two thirds of the time."""
        later = [sample for sample in self.samples if sample.at_s >= self.seconds / 3]
        return slope((sample.at_s / _TEN_MINUTES_S, sample.resident / _MB) for sample in later)

    @property
    def largest_spool(self) -> int:
        """The most bytes that the spool's folder had."""
        return max(sample.spool for sample in self.samples)

    def failures(self) -> list[str]:
        """What does not hold, in words; empty where all does."""
        found = [
            f"{service}: {each.unexplained} {_KINDS[signal]} lost and not explained, {each.received} of"
            f" {each.accepted} arrived"
            for service, balances in self.services.items()
            for signal, each in balances.items()
            if not each.adds_up
        ]
        if self.uncounted:
            found.append(f"{self.uncounted} records were made that no ledger accepted")
        if self.reported != self.left_by_the_killed:
            found.append(f"killed processes left {self.left_by_the_killed}, the next starts said {self.reported}")
        if self.left_on_disk:
            found.append(f"{self.left_on_disk} segments are left on disk")
        if self.seconds >= _TEN_MINUTES_S:  # in a shorter one the process warms up all the time
            if self.growth_mb >= _MOST_GROWTH_MB:
                found.append(f"resident memory grows by {self.growth_mb:.2f} MB in ten minutes")
            if self.fds_end > self.fds_warm:
                found.append(f"{self.fds_end} file descriptors are open, {self.fds_warm} were")
        if self.largest_spool > self.spool_cap:
            found.append(f"the spool had {self.largest_spool} bytes, {self.spool_cap} are allowed")
        return found


def shown(results: Mapping[str, Result]) -> str:
    """The peers beside each other, otelkit's ledger, and whether it holds."""
    lines = [table(("", *(peer(name).title for name in results)), _beside(list(results.values())))]
    own = results.get("otelkit")
    if own is not None:
        losses = ("lost at SIGKILL", "dropped", "of these received", "unexplained")
        lines.append(table(("otelkit's ledger", "accepted", "received", *losses), _ledger(own)))
        lines.append("\n".join(f"FAILED: {each}" for each in own.failures()) or "All holds.")
    return "\n\n".join(lines)


def _beside(results: Sequence[Result]) -> list[tuple[str, ...]]:
    rows = []
    for signal in SIGNALS:
        found = [_summed(result, signal) for result in results]
        rows.append((f"{_KINDS[signal]} made", *(str(each.accepted) for each in found)))
        rows.append(("unique received", *(str(each.received) for each in found)))
        if signal != "metrics":  # of a running sum a later point says what a lost one would have said
            rows.append(("lost", *(f"{each.lost} ({_percent(each)})" for each in found)))
    rows.append(("received again", *(str(result.again) for result in results)))
    rows.append(("ended by SIGTERM, SIGKILL", *(f"{result.stopped}, {result.killed}" for result in results)))
    rows.append(("longest end after SIGTERM, s", *(f"{result.longest_ending_s:.1f}" for result in results)))
    rows.append(("growth, MB in 10 min", *(f"{result.growth_mb:.2f}" for result in results)))
    rows.append(("resident MB at the end", *(f"{result.samples[-1].resident / _MB:.1f}" for result in results)))
    rows.append(("descriptors, warm and end", *(f"{result.fds_warm}, {result.fds_end}" for result in results)))
    spools = (f"{result.largest_spool / _MB:.1f}" if result.largest_spool else "none" for result in results)
    rows.append(("largest spool, MB", *spools))
    return rows


def _percent(found: Balance) -> str:
    return f"{100 * found.lost / max(1, found.accepted):.2f} %"


def _summed(result: Result, signal: Signal) -> Balance:
    """Both services' records of a signal."""
    found = [balances[signal] for balances in result.services.values()]
    dropped = {
        reason: sum(each.dropped.get(reason, 0) for each in found)
        for reason in dict.fromkeys(reason for each in found for reason in each.dropped)
    }
    return Balance(
        made=sum(each.made for each in found),
        accepted=sum(each.accepted for each in found),
        dropped=dropped,
        killed=sum(each.killed for each in found),
        received=sum(each.received for each in found),
    )


def _ledger(result: Result) -> list[tuple[str, ...]]:
    return [
        (
            f"{service}, {_KINDS[signal]}",
            str(each.accepted),
            str(each.received),
            str(each.killed),
            ", ".join(f"{reason} {count}" for reason, count in each.dropped.items()) or "0",
            str(each.all_the_same),
            str(each.unexplained),
        )
        for service, balances in result.services.items()
        for signal, each in balances.items()
    ]
