"""What the counting of statements (N+1) costs a request to `/orders/{number}` in which nothing is found.

One process, which does one request with the counting and one without in turn; a second one without telemetry has its
turns beside it, and says what otelkit adds at all.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import Spread, table
from benchmarks.requests import shop

AIM = 0.02
"""Of what otelkit adds."""

_PEERS = ("none", "otelkit")
_AT_ONCE = 50


@dataclass(frozen=True)
class Round:
    """CPU microseconds a request."""

    bare: float
    without: float
    counting: float
    """The median of the differences within a group of requests."""

    @property
    def added(self) -> float:
        """What otelkit adds without the counting."""
        return self.without - self.bare

    @property
    def share(self) -> float:
        """What the counting adds to that."""
        return self.counting / self.added


def measure(*, rounds: int, groups: int) -> list[Round]:
    """So many groups of four requests in each round, in new processes."""
    found = []
    with shop(_PEERS) as place:
        for number in range(rounds):
            with (
                place.run("benchmarks.in_turns", "none", place.receivers["none"]) as bare,
                place.run("benchmarks.in_turns", "otelkit", place.receivers["otelkit"]) as own,
            ):
                without: list[float] = []
                plain: list[float] = []
                counting: list[float] = []
                for _ in range(0, groups, _AT_ONCE):
                    beside, turns = bare.ask(groups=_AT_ONCE // 2), own.ask(groups=_AT_ONCE)
                    plain += beside["on"] + beside["off"]
                    without += turns["off"]
                    counting += _differences(turns["on"], turns["off"])
            found.append(Round(statistics.median(plain), statistics.median(without), statistics.median(counting)))
            print(f"round {number + 1} of {rounds}: {found[-1].counting:.2f} us", file=sys.stderr, flush=True)
    return found


def _differences(on: Sequence[float], off: Sequence[float]) -> list[float]:
    """Of each group, which has two requests of either kind."""
    return [(on[at] + on[at + 1] - off[at] - off[at + 1]) / 2 for at in range(0, len(on), 2)]


def shown(rounds: Sequence[Round]) -> str:
    """Each round, and whether the counting is within its aim."""
    rows = [
        (str(number), f"{each.bare:.0f}", f"{each.added:.0f}", f"{each.counting:.2f}", f"{each.share:.2%}")
        for number, each in enumerate(rounds, 1)
    ]
    head = ("round", "us a request, no telemetry", "added, without counting", "added by counting", "of what is added")
    share = Spread.of(each.share * 100 for each in rounds)
    held = "holds" if share.median <= AIM * 100 else "does not hold"
    return (
        f"{table(head, rows)}\n\n"
        f"The counting adds {share.shown(2)} % of what otelkit adds; the aim, at most {AIM:.0%}, {held}."
    )
