"""Takes OTLP requests: decodes them, large ones in a thread of its own, and hands the rows to the writer.

The answer says what became of it: 200 when the rows wait to be written, with the records that could not be taken, or
429 with a time to wait when the writer is behind. Bodies and their decompressed sizes are bounded.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

from otelkit.viewer.decode_logs import decode_logs
from otelkit.viewer.decode_metrics import decode_metrics
from otelkit.viewer.decode_spans import decode_spans
from otelkit.viewer.envelope import Batch
from otelkit.viewer.inflate import TooLarge, UnknownEncoding, inflated
from otelkit.viewer.span_facts import PROMOTED
from otelkit.viewer.values import Attributes
from otelkit.viewer.writer import Writer

Signal = Literal["traces", "metrics", "logs"]
Convert = Callable[[Signal, bytes], bytes]
MOST_BODY_BYTES = 16 << 20
MOST_INFLATED_BYTES = 32 << 20
RETRY_AFTER_S = 1
_SMALL_BYTES = 256 << 10
"""What an SDK sends at once, decompressed. It is decoded where it comes in, within some ms: handing it to another
thread and back costs a tenth more, since each of the two waits for Python's lock while the other has it."""
_REASONS: dict[type[BaseException], str] = {TooLarge: "too_large", UnknownEncoding: "encoding"}


class Behind(Exception):
    """There is no room for more at the moment."""


class Receiver:
    """Decodes and hands over; counts what it took, and what not, by reason."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._attributes = Attributes(PROMOTED)
        self._decode: dict[str, Callable[[bytes, Attributes, Batch], None]] = {
            "traces": decode_spans,
            "metrics": decode_metrics,
            "logs": decode_logs,
        }
        self._counting = threading.Lock()
        self.received: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.executor = ThreadPoolExecutor(1, "otelkit-viewer-decoder")

    def admit(self, size: int) -> None:
        """Reserves room for a request before its body is read; `take` or `release` gives it back.

        Raises Behind where there is none.
        """
        if not self._writer.admit(size):
            self.refuse("behind")
            raise Behind

    def release(self, size: int) -> None:
        """Gives back what `admit` reserved for a request that did not come."""
        self._writer.release(size)

    async def take(
        self, signal: Signal, body: bytes, size: int, *, encoding: str = "", convert: Convert | None = None
    ) -> Batch:
        """Decodes a request for which `size` bytes are reserved, and hands it to the writer; called by the event loop.

        `convert` makes protobuf of it first. Raises Malformed, and what `inflated` raises.
        """
        content = _small(body, encoding) if convert is None else None
        if content is not None:
            return self._take(signal, content, size)
        work = partial(self._take, signal, body, size, encoding, convert)
        return await asyncio.get_running_loop().run_in_executor(self.executor, work)

    def take_in_thread(self, signal: Signal, body: bytes, size: int) -> Batch:
        """The same for any other thread, of a body that is not compressed."""
        return self.executor.submit(self._take, signal, body, size).result()

    def _take(
        self, signal: Signal, body: bytes, size: int, encoding: str = "", convert: Convert | None = None
    ) -> Batch:
        try:
            content = inflated(body, encoding, MOST_INFLATED_BYTES)
            if convert is not None:
                content = convert(signal, content)
            self._writer.release(size - len(content))  # what waits is as large as what it was made of
            size = len(content)
            batch = Batch()
            self._decode[signal](content, self._attributes, batch)
            batch.settle()
        except BaseException as error:
            self._writer.release(size)
            self.refuse(_REASONS.get(type(error), "malformed"))
            raise
        with self._counting:
            self.received[signal] += batch.records
            self.rejected.update(batch.rejected)
        self._writer.put(batch, size)
        return batch

    def refuse(self, reason: str) -> None:
        """Counts a request that was not taken."""
        with self._counting:
            self.rejected[reason] += 1

    def counted(self) -> dict[str, Any]:
        """What was taken and what not, since the start."""
        with self._counting:
            return {"received": dict(self.received), "rejected": dict(self.rejected)}


def _small(body: bytes, encoding: str) -> bytes | None:
    """The content of a small request; None of any other, and of what is not as its encoding says."""
    try:
        return inflated(body, encoding, _SMALL_BYTES)
    except (TooLarge, UnknownEncoding, ValueError):
        return None
