"""What a flush or a shutdown achieved, and what processes left that could do neither."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from otelkit.delivery.ledger import LedgerPage, take_dead_pages

logger = logging.getLogger("otelkit.delivery")


@dataclass(frozen=True, slots=True)
class FlushReport:
    """The ledger after a flush or shutdown: records of all signals together, since the process started.

    `ok`: everything that was in memory at the call was acknowledged by the next hop, in time, nothing was dropped
    meanwhile, and the processors and readers that `bootstrap` was given were done as well. `dropped` counts by reason
    (`otelkit.delivery.ledger.DropReason`'s values).
    """

    ok: bool
    delivered: int = 0
    spooled: int = 0
    in_memory: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, page: LedgerPage, *, ok: bool, in_memory: int) -> FlushReport:
        """The report that a ledger gives."""
        dropped: Counter[str] = Counter()
        for account in page.accounts.values():
            dropped.update({reason.value: count for reason, count in account.dropped.items()})
        return cls(
            ok=ok,
            delivered=sum(account.delivered for account in page.accounts.values()),
            spooled=sum(account.spooled for account in page.accounts.values()),
            in_memory=in_memory,
            dropped=dict(dropped),
        )


def report_dead_processes(state_dir: Path) -> None:
    """Says once what each process lost that ended without closing its ledger."""
    for page in take_dead_pages(state_dir):
        if page.outstanding:
            logger.warning(
                "process %d (%s) ended with %d records undelivered", page.pid, page.service, page.outstanding
            )
