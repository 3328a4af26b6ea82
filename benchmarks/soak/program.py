"""The service of a soak, a process: `python -m benchmarks.soak.program PEER RATE FILE`.

It makes RATE records a second, four tenths of them spans, four tenths log records and two tenths metric points, and
counts them in FILE, which outlives it. It says `{}` after its first records. A line has it send all that was recorded
so far, and answer. It ends in order at the end of its standard input and at SIGTERM, as servers do.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.conversation import begin, say
from benchmarks.peers import peer
from otelkit.config.settings import SIGNALS, Signal

SPANS_SHARE, POINTS_SHARE = 0.4, 0.2  # a log record for each span

_TICK_S = 0.01
_LONGEST_BURST_S = 0.2
_COUNTS = struct.Struct(f"{len(SIGNALS)}Q")

logger = logging.getLogger("shop")


def made(file: Path) -> dict[Signal, int]:
    """How many records of each signal a program has counted in its file."""
    return dict(zip(SIGNALS, _COUNTS.unpack(file.read_bytes()), strict=True))


class Program:
    """Makes records, and counts each before it makes it."""

    def __init__(self, rate: float, counts: memoryview) -> None:
        from opentelemetry import metrics, trace
        from opentelemetry.metrics import CallbackOptions, Observation

        self._pairs_a_second = rate * SPANS_SHARE
        self._counts = counts
        self._places: dict[Signal, int] = {name: place for place, name in enumerate(SIGNALS)}
        self._tracer = trace.get_tracer("soak")
        self._started = time.monotonic()
        self._pairs = 0
        cells = [{"cell": number} for number in range(round(rate * POINTS_SHARE))]

        def observed(options: CallbackOptions) -> Iterable[Observation]:
            self._count("metrics", len(cells))
            return [Observation(self._pairs, cell) for cell in cells]

        metrics.get_meter("soak").create_observable_counter("soak.orders", [observed])

    def _count(self, kind: Signal, records: int) -> None:
        self._counts[self._places[kind]] += records

    def make_what_is_due(self) -> None:
        """Spans with a log record in each, evenly spread; what could not be made in time is left out."""
        now = time.monotonic()
        if (now - self._started) * self._pairs_a_second - self._pairs > _LONGEST_BURST_S * self._pairs_a_second:
            self._started = now - self._pairs / self._pairs_a_second
        while self._pairs <= (now - self._started) * self._pairs_a_second:
            self._count("traces", 1)
            with self._tracer.start_as_current_span("order", attributes={"order.number": self._pairs}):
                self._count("logs", 1)
                logger.info("order %d taken", self._pairs)
            self._pairs += 1


def run(name: str, rate: float, file: Path) -> None:
    """Works until it is ended."""
    ending = False

    def end(*signalled: object) -> None:
        nonlocal ending
        ending = True

    # OpenTelemetry's SDK sends what is left at the interpreter's end alone.
    signal.signal(signal.SIGTERM, end)
    logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
    for own in ("otelkit", "opentelemetry"):  # what they say is for the log file, and no record
        logging.getLogger(own).addHandler(logging.StreamHandler())
        logging.getLogger(own).propagate = False
    flush = peer(name).start(("logging",))

    file.write_bytes(bytes(_COUNTS.size))
    with file.open("r+b") as opened:
        program = Program(rate, memoryview(mmap.mmap(opened.fileno(), _COUNTS.size)).cast("Q"))
    program.make_what_is_due()
    say()
    while not ending:
        readable, _, _ = select.select([0], [], [], _TICK_S)
        if readable:
            if not os.read(0, 4096):
                break
            flush()
            say()
        program.make_what_is_due()


if __name__ == "__main__":
    begin()
    run(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
