"""Who calls whom: joins a client's span with the server's that it caused, as both come in, in whatever order.

A call to a database is known from its client's span alone, and counted in SQL (rollups.py); one to a queue is too. A
call to a service is known when the other side's span has come, and is counted as that one tells it: when it began, how
long it took, whether it failed. So the edges to a service add up to what it says it was asked (reading/red.py). Where
no such span comes for a while, the call was to something that sends none.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import Any, NamedTuple

from otelkit.viewer.rollups import MINUTE_NS
from otelkit.viewer.span_facts import Facts

Seen = tuple[bytes, "bytes | None", int, str, int, int, bool, Facts]
"""Of a span: its id, its parent's, kind, service, start and duration in ns, whether it failed, and its facts."""

_PATIENCE_S = 5.0
_MOST_WAITING = 50_000
_SERVER, _CLIENT, _PRODUCER = 2, 3, 4
_log = math.log


class _Call(NamedTuple):
    source: str
    target: str
    start_ns: int
    duration_ns: int
    failed: bool
    since_s: float


class _Served(NamedTuple):
    service: str
    start_ns: int
    duration_ns: int
    failed: bool
    since_s: float


class Edges:
    """Collects calls; owned by the writing thread."""

    def __init__(self) -> None:
        self._calls: OrderedDict[bytes, _Call] = OrderedDict()
        self._servers: OrderedDict[bytes, _Served] = OrderedDict()
        self._counted: dict[tuple[Any, ...], int] = {}
        self._failed: dict[tuple[Any, ...], int] = {}

    def add(self, spans: list[Seen]) -> None:
        """Takes the client, server, producer and consumer spans of a batch, but for those of databases."""
        now = time.monotonic()
        for span_id, parent_id, kind, service, start_ns, duration_ns, failed, facts in spans:
            if kind == _CLIENT:
                self._called(span_id, _Call(service, facts.called, start_ns, duration_ns, failed, now))
            elif kind == _SERVER:
                if parent_id is not None:
                    self._served(parent_id, _Served(service, start_ns, duration_ns, failed, now))
            elif facts.queue and kind == _PRODUCER:
                self._count(service, "service", facts.queue, "queue", start_ns, duration_ns, failed)
            elif facts.queue:
                self._count(facts.queue, "queue", service, "service", start_ns, duration_ns, failed)

    def _called(self, span_id: bytes, call: _Call) -> None:
        served = self._servers.pop(span_id, None)
        if served is not None:
            self._count_served(call, served)
        else:
            self._calls[span_id] = call

    def _served(self, parent_id: bytes, served: _Served) -> None:
        call = self._calls.pop(parent_id, None)
        if call is not None:
            self._count_served(call, served)
        else:
            self._servers[parent_id] = served

    def _count_served(self, call: _Call, served: _Served) -> None:
        self._count(
            call.source, "service", served.service, "service", served.start_ns, served.duration_ns, served.failed
        )

    def _count(
        self, source: str, source_kind: str, target: str, kind: str, start_ns: int, duration_ns: int, failed: bool
    ) -> None:
        bucket = int(_log(duration_ns / 1000) * 8) if duration_ns > 1000 else 0
        key = (start_ns // MINUTE_NS, source, source_kind, target, kind, bucket)
        self._counted[key] = self._counted.get(key, 0) + 1
        if failed:
            self._failed[key] = self._failed.get(key, 0) + 1

    def take(self, *, everything: bool = False) -> list[tuple[Any, ...]]:
        """The rows that were counted since the last time."""
        until = math.inf if everything else time.monotonic() - _PATIENCE_S
        while self._calls:
            span_id, call = next(iter(self._calls.items()))
            if call.since_s > until and len(self._calls) <= _MOST_WAITING:
                break
            del self._calls[span_id]
            if call.target:
                self._count(
                    call.source, "service", call.target, "external", call.start_ns, call.duration_ns, call.failed
                )
        while self._servers:
            span_id, served = next(iter(self._servers.items()))
            if served.since_s > until and len(self._servers) <= _MOST_WAITING:
                break
            del self._servers[span_id]
        rows = [(*key, count, self._failed.get(key, 0)) for key, count in self._counted.items()]
        self._counted.clear()
        self._failed.clear()
        return rows
