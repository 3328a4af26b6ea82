"""The sender thread: takes batches from the outbox, sends them, and settles the ledger by what became of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from otelkit.config.settings import Signal
from otelkit.delivery.destination import Destination
from otelkit.delivery.ledger import DropReason, Ledger
from otelkit.delivery.outbox import Batch, Outbox
from otelkit.delivery.retry import Backoff
from otelkit.delivery.spool import Spool
from otelkit.delivery.transport import (
    Delivered,
    Outcome,
    Refused,
    Retry,
    Transport,
    import_transport,
    open_transport,
)
from otelkit.runtime import fork
from otelkit.runtime.selflog import Throttle

logger = logging.getLogger("otelkit.delivery")


class Sender:
    """Owns the transports, which are made here and used by the thread that runs `run` alone.

    One WARNING when a next hop stops answering, whatever the signal, and one INFO with counts when it is back.
    `quiet`: the absence of a collector at the default address is no news (a developer who never asked for one).
    """

    def __init__(
        self,
        outbox: Outbox,
        ledger: Ledger,
        destinations: Mapping[Signal, Destination],
        spool: Spool | None,
        wake_worker: Callable[[], None],
        *,
        quiet: bool,
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._wake_worker = wake_worker
        self._ledger = ledger
        self._destinations = destinations
        self._quiet = quiet
        self._transports: dict[Signal, Transport] = {}
        self._backoffs = {signal: Backoff() for signal in destinations}
        hops = {found.hop: _Trouble(found) for found in destinations.values()}
        self._troubles = {signal: hops[destinations[signal].hop] for signal in destinations}
        self._throttle = Throttle()

    def run(self) -> None:
        """Sends until the outbox is closed."""
        with self._prepared():
            while (batch := self._outbox.take()) is not None:
                self._handle(batch, self._send(batch))
            for transport in self._transports.values():
                transport.close()

    def run_here(self, deadline: float) -> None:
        """Sends what is due now in the calling thread, until `deadline` (monotonic) at the latest: where no thread
        can start.
        """
        with self._prepared():
            while (left_s := deadline - time.monotonic()) > 0 and (batch := self._outbox.take_due()) is not None:
                self._handle(batch, self._send(batch, left_s))

    def _prepared(self) -> AbstractContextManager[None]:
        with fork.importing:
            for destination in self._destinations.values():
                import_transport(destination)
            return _suppressed_instrumentation()

    def _send(self, batch: Batch, longest_s: float | None = None) -> Outcome:
        try:
            transport = self._transports.get(batch.signal)
            if transport is None:
                transport = self._transports[batch.signal] = open_transport(self._destinations[batch.signal])
            return transport.send(batch.body, longest_s)
        except Exception as error:  # noqa: BLE001 - the thread must live; a transport that fails is a failed attempt
            return Retry(f"{type(error).__name__} in the transport")

    def _handle(self, batch: Batch, outcome: Outcome) -> None:
        trouble = self._troubles[batch.signal]
        if isinstance(outcome, Retry):
            pause_s = self._backoffs[batch.signal].after_failure(outcome.after_s)
            if self._outbox.retry(batch, pause_s):
                trouble.failed(batch.signal, outcome, quiet=self._quiet)
            if self._spool is not None:
                if not outcome.unreachable:
                    self._spool.answered(batch.signal)
                self._wake_worker()  # what waits goes to the disk
            return
        rejected = min(max(outcome.rejected, 0), batch.records) if isinstance(outcome, Delivered) else 0
        if not self._outbox.settle(batch, lambda: self._count(batch, outcome, rejected)):
            return
        self._backoffs[batch.signal].after_success()
        if self._spool is not None:
            self._spool.answered(batch.signal)
            if batch.frame is not None:
                self._spool.settled(batch.signal, batch.frame)
                self._wake_worker()  # the next one can be read back
        if isinstance(outcome, Delivered):
            if batch.delivered is not None:
                batch.delivered()
            trouble.delivered(batch.signal, batch.records - rejected)
            if rejected:
                self._say(batch, f"rejected {rejected} of {batch.records} {batch.signal}: {outcome.message}")
        else:
            self._say(batch, f"refused {batch.records} {batch.signal} with {outcome.cause}; they are dropped")

    def _count(self, batch: Batch, outcome: Delivered | Refused, rejected: int) -> None:
        account = self._ledger.signals[batch.signal]
        spooled = batch.frame is not None
        if isinstance(outcome, Refused):
            reason = DropReason.TOO_LARGE if outcome.too_large else DropReason.REFUSED
            account.drop(reason, batch.records, spooled=spooled)
            return
        if spooled:
            account.cells[account.spooled] -= batch.records
        account.cells[account.delivered] += batch.records - rejected
        account.drop(DropReason.REJECTED, rejected)

    def _say(self, batch: Batch, what: str) -> None:
        held_back = self._throttle.admit(f"{batch.signal} {what.split()[0]}")
        if held_back is not None:
            more = f" ({held_back} more such answers since the last message)" if held_back else ""
            logger.warning("%s %s%s", self._destinations[batch.signal].shown, what, more)


class _Trouble:
    """One outage of one next hop, from the WARNING to the INFO; the signals that go there share it.

    A next hop that comes and goes is told of once a minute.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._failing: set[Signal] = set()
        self._since = 0.0
        self._attempts = 0
        self._throttle = Throttle()
        self._told = logging.WARNING

    def failed(self, signal: Signal, outcome: Retry, *, quiet: bool) -> None:
        """Speaks at the first failure."""
        self._attempts += 1
        if not self._failing:
            self._since = time.monotonic()
            unasked = quiet and outcome.unreachable and self._destination.by_default
            held_back = None if unasked else self._throttle.admit("")
            self._told = logging.DEBUG if held_back is None else logging.WARNING
            logger.log(
                self._told,
                "%s does not take %s (%s); what is for it is kept and tried again%s",
                self._destination.hop,
                signal,
                outcome.cause,
                f" ({held_back} more outages since the last message)" if held_back else "",
            )
        self._failing.add(signal)

    def delivered(self, signal: Signal, records: int) -> None:
        """Speaks when every signal that failed has got through."""
        if signal not in self._failing:
            return
        self._failing.discard(signal)
        if not self._failing:
            logger.log(
                min(self._told, logging.INFO),
                "%s takes everything again after %.0f s and %d failed attempts; the last request delivered %d %s",
                self._destination.hop,
                time.monotonic() - self._since,
                self._attempts,
                records,
                signal,
            )
            self._attempts = 0


def _suppressed_instrumentation() -> AbstractContextManager[None]:
    """Keeps contrib's HTTP instrumentations off our own requests; where contrib is not installed there is none to
    keep off.
    """
    suppress: Callable[[], AbstractContextManager[None]]
    try:
        from opentelemetry.instrumentation.utils import suppress_instrumentation as suppress
    except ImportError:
        return nullcontext()
    return suppress()
