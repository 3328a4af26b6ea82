"""The bookkeeping of a soak: what was made, what arrived, and what the ledgers say of the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from otelkit.config.settings import SIGNALS, Signal
from otelkit.delivery.ledger import DropReason, LedgerPage

_SUPERSEDED = DropReason.SUPERSEDED.value
_REPORT = re.compile(r"process (\d+) \(\S+\) ended with (\d+) records undelivered")


@dataclass(frozen=True)
class Ended:
    """A process that has ended: how many records of each signal the program made, how long its end took after the
    signal for it, and its ledger as it was at the last, where it had one.
    """

    pid: int
    killed: bool
    ending_s: float
    made: Mapping[Signal, int]
    page: LedgerPage | None = None


@dataclass(frozen=True)
class Balance:
    """One signal's records in all processes of a service, one after the other.

    `killed` were in memory alone when their process was killed. What a process took over from a dead one was accepted
    by that one, and counts once.
    """

    made: int
    accepted: int
    dropped: Mapping[str, int]
    killed: int
    received: int

    @property
    def superseded(self) -> int:
        """Points whose place a later point of the same running sum has taken: no loss."""
        return self.dropped.get(_SUPERSEDED, 0)

    @property
    def lost(self) -> int:
        """What was accepted, and neither arrived nor was superseded."""
        return max(0, self.accepted - self.superseded - self.received)

    @property
    def unexplained(self) -> int:
        """What no ledger tells the fate of: neither received, nor dropped by a reason, nor in memory at a kill.

        More may arrive than the ledgers promise, never less.
        """
        return max(0, -self._beyond)

    @property
    def all_the_same(self) -> int:
        """What arrived though a ledger calls it lost: its process was killed before it knew of the answer."""
        return max(0, self._beyond)

    @property
    def _beyond(self) -> int:
        return self.received + sum(self.dropped.values()) + self.killed - self.accepted

    @property
    def adds_up(self) -> bool:
        """Whether nothing is unexplained, and no more arrived than was accepted."""
        return not self.unexplained and self.received <= self.accepted


def balance(processes: Iterable[Ended], received: Mapping[str, int]) -> dict[Signal, Balance]:
    """Each signal's balance over a service's processes. Without a ledger, what was made counts as accepted."""
    ended = list(processes)
    found: dict[Signal, Balance] = {}
    for signal in SIGNALS:
        dropped: Counter[str] = Counter()
        made = accepted = killed = 0
        for each in ended:
            made += each.made[signal]
            if each.page is None:
                accepted += each.made[signal]
                continue
            account = each.page.accounts[signal]
            accepted += account.accepted - account.adopted
            dropped.update({reason.value: count for reason, count in account.dropped.items()})
            # Who ended in order has nothing in memory: what its ledger has there all the same is unexplained.
            killed += account.outstanding if each.killed else 0
        found[signal] = Balance(made, accepted, dict(dropped), killed, received.get(signal, 0))
    return found


def uncounted(found: Mapping[Signal, Balance], kills: int) -> int:
    """Spans and log records that the program made and no ledger accepted. A kill may come between the two counts."""
    kinds: tuple[Signal, ...] = ("traces", "logs")
    return sum(max(0, found[kind].made - found[kind].accepted - kills) for kind in kinds)


def left_by_the_killed(processes: Iterable[Ended]) -> dict[int, int]:
    """What was in memory alone in each process that was killed, by its pid, where there was something."""
    pages = (each.page for each in processes if each.killed and each.page is not None)
    return {page.pid: page.outstanding for page in pages if page.outstanding}


def reported(log: str) -> dict[int, int]:
    """What the next starts have said was lost, by the pid of the process that lost it."""
    return {int(pid): int(records) for pid, records in _REPORT.findall(log)}
