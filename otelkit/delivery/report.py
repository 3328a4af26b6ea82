"""What a flush or a shutdown achieved, and what processes left that could do neither."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from otelkit.delivery.ledger import Ledger, LedgerPage, take_dead_pages

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


def report_end(page: LedgerPage, lost: int, *, unasked: bool) -> bool:
    """Says what became of the records that were not delivered by the end; whether there were none. `unasked`: nobody
    has asked for any to be delivered.
    """
    if lost:
        level = logging.DEBUG if unasked else logging.WARNING
        logger.log(level, "%d records could not be delivered before the end of the process", lost)
    spooled = sum(account.spooled for account in page.accounts.values())
    if spooled:
        logger.info("%d records wait in the spool for the service's next process", spooled)
    return not lost and not spooled


def open_page(ledger: Ledger) -> None:
    """Opens the ledger's page, and says why where it cannot be made."""
    ledger.open_page()
    if ledger.file_error is not None:
        logger.warning(
            "the ledger's page cannot be made (%s); `otelkit status --pid` will not see this process",
            ledger.file_error,
        )


def report_dead_processes(state_dir: Path) -> None:
    """Says once what each process lost that ended without closing its ledger."""
    for page in take_dead_pages(state_dir):
        if page.outstanding:
            logger.warning(
                "process %d (%s) ended with %d records undelivered", page.pid, page.service, page.outstanding
            )
