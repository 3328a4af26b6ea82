"""Makes batches of records: encodes them, divides a request that is too long, and compresses it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from otelkit.config.settings import Signal
from otelkit.delivery.compression import compressed
from otelkit.delivery.encode import Encoder
from otelkit.delivery.ledger import Ledger
from otelkit.delivery.options import PipelineOptions
from otelkit.delivery.outbox import Batch
from otelkit.delivery.splitting import split
from otelkit.runtime import guard

_LONGEST_REQUEST_BYTES = 4_000_000  # before compression: gRPC servers take 4 MiB unless told otherwise
_KEYS = (1 << 64) - 1
_KEY_STEP = 0x9E3779B97F4A7C15  # apart from each other, and from the numbers that collections have


class Packing:
    """Makes the batches of one process; not thread-safe, the worker thread owns it.

    The encoder is made with the first batch.
    """

    def __init__(self, options: PipelineOptions, ledger: Ledger) -> None:
        self._options = options
        self._destinations = options.destinations
        self._ledger = ledger
        self._encoder: Encoder | None = None

    def batches(
        self,
        signal: Signal,
        records: int,
        encode: Callable[[Encoder], tuple[bytes, int]],
        delivered: Callable[[], None] | None = None,
        key: int = 0,
    ) -> tuple[list[Batch], int]:
        """The batches of so many records, and how many of these could not be encoded. `delivered` is called when all
        of the batches are, `key` as for Batch.
        """
        try:
            if self._encoder is None:
                self._encoder = self._new_encoder()
            body, failed = encode(self._encoder)
            account = self._ledger.signals[signal]
            account.add(account.truncated, self._encoder.take_cut())
            return self.divided(signal, body, records - failed, delivered, key) if failed < records else [], failed
        except Exception:  # noqa: BLE001 - the worker must live; the records are counted
            guard.report(f"the encoding of {signal}")
            return [], records

    def _new_encoder(self) -> Encoder:
        options = self._options
        longest = max(options.spans.caps.value_bytes, options.logs.caps.value_bytes)
        return Encoder({"traces": options.resource, "logs": options.resource}, options.redaction, longest)

    def divided(
        self,
        signal: Signal,
        body: bytes,
        records: int,
        delivered: Callable[[], None] | None = None,
        key: int = 0,
    ) -> list[Batch]:
        """The batches of a request; none for a signal that is not exported."""
        if signal not in self._destinations:
            return []
        parts = split(signal, body, records, _LONGEST_REQUEST_BYTES)
        if delivered is not None and len(parts) > 1:
            delivered = _after(len(parts), delivered)
        compression = self._destinations[signal].body_compression
        return [
            Batch(
                signal,
                compressed(part.body, compression),
                part.records,
                delivered=delivered,
                raw=len(part.body),
                key=(key + place * _KEY_STEP) & _KEYS if key else 0,
            )
            for place, part in enumerate(parts)
        ]


def _after(times: int, call: Callable[[], None]) -> Callable[[], None]:
    """What calls another when it has been called so often."""
    calls = itertools.count(1)

    def count() -> None:
        if next(calls) == times:
            call()

    return count
