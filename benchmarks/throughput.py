"""How many records a second one process makes and delivers without losing one: half spans, half log records, gzip.

Looks for the highest rate that can be asked for so that all that is made arrives, then holds it: a rate that loses a
record in the long run is lowered until none is lost.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from benchmarks.cpu import used_s
from benchmarks.environments import micro_environment
from benchmarks.micro import IMPLEMENTATIONS
from benchmarks.peers import peer
from benchmarks.processes import Child, Sink, child, clean_environment, sink
from benchmarks.report import table

_FIRST_RATE = 2_000.0
_PROBE_S = 3.0
_STEP = 1.5
_PRECISION = 1.05
_LOWERED = 0.95


@dataclass(frozen=True)
class Throughput:
    """Records a second that all arrived, over so many seconds, and CPU of the whole process for one of them; the
    lowest rate that lost some, if any did.
    """

    rate: float
    cpu_us: float
    seconds: float
    lost_at: float | None


def measure(seconds: float, peers: Sequence[str]) -> dict[str, Throughput]:
    """Each implementation whose peer is among these, one after the other."""
    python = micro_environment()
    found = {}
    with tempfile.TemporaryDirectory(prefix="otelkit-bench-") as temporary:
        folder = Path(temporary)
        for name, chosen in IMPLEMENTATIONS.items():
            if chosen not in peers:
                continue
            with sink(folder) as receiver:
                environ = clean_environment(
                    **peer(chosen).environ(receiver.url),
                    OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
                    OTELKIT_STATE_DIR=f"{temporary}/state",
                )
                word = "sdk" if chosen == "contrib" else "otelkit"
                with child(python, "benchmarks.produce", word, environ=environ, log=folder / "produce.log") as producer:
                    found[name] = _highest(producer, receiver, seconds)
            print(f"{name}: {found[name].rate:.0f} records/s", file=sys.stderr, flush=True)
    return found


def _highest(producer: Child, receiver: Sink, seconds: float) -> Throughput:
    kept, lost = 0.0, float("inf")
    rate = _FIRST_RATE
    while lost > kept * _PRECISION:
        found = delivered_rate(producer, receiver, rate, _PROBE_S)
        if found is None:
            lost = rate
        else:
            kept = rate
            if found < rate / 2:  # it makes as many as it can, and loses none of them
                break
        rate = kept * _STEP if lost == float("inf") else (kept + lost) / 2
    started_s = used_s(producer.pid)
    while (found := delivered_rate(producer, receiver, kept, seconds)) is None:
        lost = min(lost, kept)
        kept *= _LOWERED
        started_s = used_s(producer.pid)
    cpu_us = (used_s(producer.pid) - started_s) / (found * seconds) * 1e6
    return Throughput(found, cpu_us, seconds, lost if isfinite(lost) else None)


def delivered_rate(producer: Child, receiver: Sink, rate: float, seconds: float) -> float | None:
    """Records a second that were made and sent, of those asked for, where all arrived; None where some did not."""
    answer = producer.ask(rate=rate, seconds=seconds)
    received = receiver.received()
    arrived = sum(sum(received[kind].values()) for kind in ("spans", "logs"))
    return answer["made"] / answer["seconds"] if arrived >= answer["made"] else None


def shown(found: Mapping[str, Throughput], seconds: float) -> str:
    """The table."""
    rates = [each.rate for each in found.values()]
    rows = [
        (
            name,
            f"{each.rate:.0f}",
            f"{each.rate / rates[0]:.2f}",
            f"{each.cpu_us:.1f}",
            f"{each.lost_at:.0f}" if each.lost_at else "none",
        )
        for name, each in found.items()
    ]
    head = (f"records/s for {seconds:.0f} s", "all delivered", "times the first", "CPU us/record", "losses from")
    return table(head, rows)
