"""The producer of the throughput part, a process of its own: `python -m benchmarks.produce NAME`.

NAME is `sdk` or `otelkit`. It says `{}` when it is set up. `{"rate": R, "seconds": S}` has it make R records a second
for S seconds, half of them spans with 12 attributes and half log records, and send them all; it answers with how many
it made and how long that took, the sending of the last included. It ends with its standard input.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.conversation import answer_in_thread, begin, say
from benchmarks.operations import attributes
from benchmarks.peers import Flush

_TICK_S = 0.01

logger = logging.getLogger("shop")


def _sdk() -> Flush:
    from benchmarks.peers import contrib

    flush = contrib.set_up_sdk()
    contrib.instrument(("logging",))
    return flush


def _otelkit() -> Flush:
    from benchmarks.peers import otelkit

    return otelkit.start(("logging",))


def produce(start: Callable[[], Flush]) -> None:
    """Makes records as it is told until standard input ends."""
    logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
    flush = start()

    from opentelemetry import trace

    tracer = trace.get_tracer("benchmark")

    def answer(words: Mapping[str, Any]) -> Mapping[str, object]:
        started = time.perf_counter()
        made = _make(tracer, float(words["rate"]), float(words["seconds"]))
        flush()
        return {"made": made, "seconds": time.perf_counter() - started}

    answer_in_thread(answer, lambda: os._exit(0))
    say()
    threading.Event().wait()


def _make(tracer: Any, rate: float, seconds: float) -> int:
    """Spans with a log record in each, evenly spread, or as many as it can. How many records it made."""
    started = time.perf_counter()
    made = 0
    while (elapsed := time.perf_counter() - started) < seconds:
        if made >= elapsed * rate:
            time.sleep(_TICK_S)
            continue
        with tracer.start_as_current_span("GET /orders/{number}", attributes=attributes(made)):
            logger.info("order %d read", made)
        made += 2
    return made


if __name__ == "__main__":
    begin()
    produce({"sdk": _sdk, "otelkit": _otelkit}[sys.argv[1]])
