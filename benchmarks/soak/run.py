"""The soak itself: two services under a peer, of which one lives long and one is restarted, and their collector."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from benchmarks.collector import FAILURES
from benchmarks.cpu import resident_bytes
from benchmarks.environments import micro_environment
from benchmarks.processes import Child, child, clean_environment
from benchmarks.soak.balance import balance, left_by_the_killed, reported, uncounted
from benchmarks.soak.otelcol import Otelcol
from benchmarks.soak.result import Result, Sample
from benchmarks.soak.schedule import STOPS, Event, schedule, warm_up_s
from benchmarks.soak.service import Service, Start

PEERS = ("otelkit", "contrib")
RATE = 2000.0
"""Records a second of both services together."""
SPOOL_MAX_BYTES = 32 * 1024 * 1024

_SAMPLE_INTERVAL_S = 1.0
_POLL_INTERVAL_S = 0.05
_DRAINED_TIMEOUT_S = 120.0
_POINTS_INTERVAL_MS = "1000"


def measure(peers: Sequence[str], *, seconds: float, seed: int, otelcol: bool = False) -> dict[str, Result]:
    """The same soak for each of PEERS that is among these, at the same time, so that other load hits all alike.

    With `otelcol` a real one is between services and collector, and what is lost is lost end to end.
    """
    python = micro_environment()
    chosen = [name for name in PEERS if name in peers]
    events = schedule(seed, seconds)
    outages, stops = (sum(event.what in words for event in events) for words in (FAILURES, STOPS))
    print(f"{seconds / 60:g} minutes with {outages} outages and {stops} restarts", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="otelkit-bench-") as temporary, ThreadPoolExecutor() as pool:
        found = {name: pool.submit(_soaked, name, python, Path(temporary, name), seconds, events, otelcol)
                 for name in chosen}  # fmt: skip
        return {name: result.result() for name, result in found.items()}


def _soaked(name: str, python: Path, folder: Path, seconds: float, events: Sequence[Event], otelcol: bool) -> Result:
    folder.mkdir()
    with ExitStack() as stack:
        environ, log = clean_environment(), folder / "collector.log"
        collector: Child | Otelcol
        collector = stack.enter_context(child(sys.executable, "benchmarks.collector", environ=environ, log=log))
        if otelcol:
            collector = Otelcol(collector, folder)
            stack.callback(collector.kill)
        return _Soak(name, python, folder, collector, stack).run(seconds, events)


class _Soak:
    """One peer's. The long-lived service has otelkit's defaults; the restarted one writes all ahead, so that SIGKILL
    takes little with it. What still runs at a failure ends with `stack`.
    """

    def __init__(self, name: str, python: Path, folder: Path, collector: Child | Otelcol, stack: ExitStack) -> None:
        self._name = name
        self._collector = collector
        state = folder / "state"
        self._spool = state / "spool"
        environ = clean_environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.first['port']}",
            OTEL_METRIC_EXPORT_INTERVAL=_POINTS_INTERVAL_MS,
            OTELKIT_STATE_DIR=str(state),
            OTELKIT_SPOOL_MAX_BYTES=str(SPOOL_MAX_BYTES),
        )
        self._long_lived = Service(Start(python, name, RATE / 2, environ, folder, state), "long-lived")
        stack.callback(self._long_lived.kill)
        always = {**environ, "OTELKIT_SPOOL": "always"}
        self._restarted = Service(Start(python, name, RATE / 2, always, folder, state), "restarted")
        stack.callback(self._restarted.kill)
        self._services = (self._long_lived, self._restarted)
        self._samples: list[Sample] = []

    def run(self, seconds: float, events: Sequence[Event]) -> Result:
        """Does all events in their time, then has everything sent, and counts."""
        started = time.monotonic()
        warm = warm_up_s(seconds)
        self._until(started, warm, deque(event for event in events if event.at_s <= warm))
        fds_warm = self._open_files()
        self._until(started, seconds, deque(event for event in events if event.at_s > warm))
        self._drain()
        fds_end = self._open_files()
        for service in self._services:
            service.end()
        return self._result(seconds, fds_warm, fds_end)

    def _until(self, started: float, at_s: float, events: deque[Event]) -> None:
        while (now_s := time.monotonic() - started) < at_s or events:
            while events and events[0].at_s <= now_s:
                self._do(events.popleft().what)
            self._restarted.tend()
            self._long_lived.tend()
            if not self._samples or now_s >= self._samples[-1].at_s + _SAMPLE_INTERVAL_S:
                resident = resident_bytes(self._long_lived.process.pid)
                self._samples.append(Sample(now_s, resident, _size(self._spool)))
            time.sleep(_POLL_INTERVAL_S)

    def _do(self, what: str) -> None:
        if what in STOPS:
            self._restarted.stop(what)
        else:
            self._collector.ask(mode=what)

    def _open_files(self) -> int:
        """The long-lived process's, when all has been sent: connections and files that are used in an outage are open
        or closed as before it.
        """
        self._long_lived.process.ask()
        return psutil.Process(self._long_lived.process.pid).num_fds()

    def _drain(self) -> None:
        """Has the services send what they have, and what the killed have left, to a collector that is up."""
        deadline = time.monotonic() + _DRAINED_TIMEOUT_S
        self._restarted.stop("SIGTERM")  # the last process takes over all that was left before it
        while not self._restarted.process.has_ended and time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL_S)
        self._restarted.tend()
        for service in self._services:
            service.process.ask()
            while service.waiting() and time.monotonic() < deadline:
                service.process.ask()

    def _result(self, seconds: float, fds_warm: int, fds_end: int) -> Result:
        answer = self._collector.ask(unique=True)
        unique: Mapping[str, Mapping[str, int]] = answer["unique"]
        ended = self._restarted.ended
        balances = {each.name: balance(each.ended, unique.get(each.name, {})) for each in self._services}
        killed = sum(each.killed for each in ended)
        return Result(
            peer=self._name,
            seconds=seconds,
            services=balances,
            again=_sum(answer["all"]) - _sum(unique),
            uncounted=uncounted(balances["long-lived"], 0) + uncounted(balances["restarted"], killed),
            stopped=len(ended) - killed,
            killed=killed,
            longest_ending_s=max(each.ending_s for each in ended),
            left_by_the_killed=left_by_the_killed(ended),
            reported=reported(self._restarted.log.read_text(errors="replace")),
            left_on_disk=sum(1 for _ in self._spool.glob("*/*/*.segment")),
            fds_warm=fds_warm,
            fds_end=fds_end,
            spool_cap=SPOOL_MAX_BYTES,
            samples=self._samples,
        )


def _sum(counts: Mapping[str, Mapping[str, int]]) -> int:
    return sum(count for kinds in counts.values() for count in kinds.values())


def _size(folder: Path) -> int:
    """The bytes of all files below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(at, name)).st_size
    return total
