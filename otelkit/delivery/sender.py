"""The sender thread: takes batches from the outbox, sends them, and settles the ledger by what became of them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from otelkit.config.settings import Signal
from otelkit.delivery.compression import compressed, decompressed
from otelkit.delivery.destination import Destination
from otelkit.delivery.ledger import DropReason, Ledger
from otelkit.delivery.outbox import Batch, Outbox
from otelkit.delivery.retry import Backoff
from otelkit.delivery.splitting import Part, halves
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
from otelkit.runtime import fork, guard
from otelkit.runtime.selflog import Throttle

logger = logging.getLogger("otelkit.delivery")


class Sender:
    """Sends what goes to one next hop: `destinations` are those of its signals. Owns the transports, which are made
    here and used by the thread that runs `run` alone.

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
        self._longest = dict.fromkeys(destinations, sys.maxsize)  # bytes of a request that is not too large
        self._throttle = Throttle()

    def run(self) -> None:
        """Sends until the outbox is closed."""
        with self._prepared():
            while (batch := self._outbox.take(self._destinations)) is not None:
                self._handle(batch, self._send(batch))
            for transport in self._transports.values():
                transport.close()

    def hurry(self) -> None:
        """Breaks off what takes longer than its time-out allows; the worker's."""
        for transport in tuple(self._transports.values()):
            transport.hurry()

    def run_here(self, deadline: float) -> None:
        """Sends what is due now in the calling thread, until `deadline` (monotonic) at the latest: where no thread
        can start.
        """
        with self._prepared():
            while (left_s := deadline - time.monotonic()) > 0 and (
                batch := self._outbox.take_due(self._destinations)
            ) is not None:
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
            while len(batch.next.body) > self._longest[batch.signal] and self._divide(batch):
                pass
            return transport.send(batch.next.body, longest_s)
        except Exception as error:  # noqa: BLE001 - the thread must live; a transport that fails is a failed attempt
            return Retry(f"{type(error).__name__} in the transport")

    def _handle(self, batch: Batch, outcome: Outcome) -> None:
        if isinstance(outcome, Retry):
            self._failed(batch, outcome)
            return
        part = batch.next
        if isinstance(outcome, Refused) and outcome.too_large and self._divide(batch):
            self._longest[batch.signal] = min(self._longest[batch.signal], len(part.body) // 2)
            self._outbox.proceed(batch)
            return
        self._tell(batch, part, outcome)
        batch.fates.update(_fates(part, outcome))
        del batch.parts[:1]
        if batch.parts:
            self._outbox.proceed(batch)
        else:
            self._settle(batch, outcome)

    def _failed(self, batch: Batch, outcome: Retry) -> None:
        pause_s = self._backoffs[batch.signal].after_failure(outcome.after_s)
        if self._outbox.retry(batch, pause_s):
            self._troubles[batch.signal].failed(batch.signal, outcome, quiet=self._quiet)
        if self._spool is not None:
            if not outcome.unreachable:
                self._spool.answered(batch.signal)
            self._wake_worker()  # what waits goes to the disk

    def _settle(self, batch: Batch, outcome: Delivered | Refused) -> None:
        backoff = self._backoffs[batch.signal]
        pause_s = None
        nothing_went = batch.records > 1 and not batch.fates[None]
        if isinstance(outcome, Refused) and (outcome.anything or (outcome.too_large and nothing_went)):
            pause_s = backoff.after_failure()
        else:
            backoff.after_success()
        if not self._outbox.settle(batch, lambda: self._count(batch), pause_s=pause_s):
            return
        if self._spool is not None:
            self._spool.answered(batch.signal)
            if batch.frame is not None:
                self._spool.settled(batch.signal, batch.frame)
            if batch.frame is not None or pause_s is not None:
                self._wake_worker()  # the next one can be read back, or what waits goes to the disk
        if batch.fates[None]:
            if batch.delivered is not None:
                batch.delivered()
            self._troubles[batch.signal].delivered(batch.signal, batch.fates[None])

    def _divide(self, batch: Batch) -> bool:
        """Makes two parts of the next one; False where it is one record."""
        part = batch.next
        compression = self._destinations[batch.signal].body_compression
        try:
            found = halves(batch.signal, decompressed(part.body))
        except Exception:  # noqa: BLE001 - the thread must live; what cannot be divided is dropped as it is
            guard.report("the division of a request")
            return False
        if found is None:
            return False
        batch.parts[:1] = (Part(compressed(half.body, compression), half.records) for half in found)
        return True

    def _count(self, batch: Batch) -> None:
        self._ledger.signals[batch.signal].settle(batch.fates, spooled=batch.frame is not None)

    def _tell(self, batch: Batch, part: Part, outcome: Delivered | Refused) -> None:
        signal = batch.signal
        if isinstance(outcome, Refused):
            then = "; what comes next is kept, and tried after a pause" if outcome.anything else ""
            self._say(batch, f"refused {part.records} {signal} with {outcome.cause}; they are dropped{then}")
        elif outcome.rejected > 0:
            self._say(batch, f"rejected {outcome.rejected} of {part.records} {signal}: {outcome.message}")

    def _say(self, batch: Batch, what: str) -> None:
        held_back = self._throttle.admit(f"{batch.signal} {what.split()[0]}")
        if held_back is not None:
            more = f" ({held_back} more such answers since the last message)" if held_back else ""
            logger.warning("%s %s%s", self._destinations[batch.signal].shown, what, more)


def by_hop(destinations: Mapping[Signal, Destination]) -> list[Mapping[Signal, Destination]]:
    """The destinations of each next hop. A sender each: one that hangs does not keep the others waiting."""
    found: dict[str, dict[Signal, Destination]] = {}
    for signal, destination in destinations.items():
        found.setdefault(destination.hop, {})[signal] = destination
    return list(found.values())


def _fates(part: Part, outcome: Delivered | Refused) -> Mapping[DropReason | None, int]:
    if isinstance(outcome, Refused):
        return {DropReason.TOO_LARGE if outcome.too_large else DropReason.REFUSED: part.records}
    rejected = min(max(outcome.rejected, 0), part.records)
    return {None: part.records - rejected, DropReason.REJECTED: rejected}


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
