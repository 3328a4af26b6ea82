"""Who calls whom: joins a client's span with the server's that it caused, as both come in, in whatever order.

A call to a database or a queue is known from its client's span alone. A call to a service is known when the other
side's span has come; where none comes for a while, it was to something that sends no spans.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

from otelkit.viewer.rollups import MINUTE_NS

_PATIENCE_S = 5.0
_MOST_WAITING = 50_000
_SERVER, _CLIENT, _PRODUCER, _CONSUMER = 2, 3, 4, 5
_CACHES = frozenset(("redis", "memcached", "valkey"))


class _Call(NamedTuple):
    source: str
    source_kind: str
    target: str
    kind: str
    start_ns: int
    duration_ns: int
    failed: bool
    since_s: float


class Edges:
    """Collects calls; owned by the writing thread."""

    def __init__(self) -> None:
        self._calls: OrderedDict[bytes, _Call] = OrderedDict()
        self._servers: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._counted: Counter[tuple[Any, ...]] = Counter()
        self._failed: Counter[tuple[Any, ...]] = Counter()

    def add(self, spans: list[tuple[Any, ...]]) -> None:
        """Takes the client, server, producer and consumer spans of a batch."""
        now = time.monotonic()
        for span_id, parent_id, kind, service, start_ns, duration_ns, failed, promoted in spans:
            if kind == _SERVER:
                if parent_id is not None:
                    self._served(parent_id, service, now)
            elif kind == _CLIENT:
                target, called = _target(promoted)
                self._called(span_id, _Call(service, "service", target, called, start_ns, duration_ns, failed, now))
            else:
                queue = promoted.get("messaging.destination.name") or promoted.get("messaging.system")
                ends = [(service, "service"), (str(queue), "queue")]
                if queue:
                    (source, called_by), (target, called) = ends if kind == _PRODUCER else reversed(ends)
                    self._count(_Call(source, called_by, target, called, start_ns, duration_ns, failed, now))

    def _called(self, span_id: bytes, call: _Call) -> None:
        if call.kind != "external":
            self._count(call)
            return
        server = self._servers.pop(span_id, None)
        if server is not None:
            self._count(call._replace(target=server[0], kind="service"))
        elif call.target or call.source:
            self._calls[span_id] = call

    def _served(self, parent_id: bytes, service: str, now: float) -> None:
        call = self._calls.pop(parent_id, None)
        if call is not None:
            self._count(call._replace(target=service, kind="service"))
        else:
            self._servers[parent_id] = (service, now)

    def _count(self, call: _Call) -> None:
        bucket = math.floor(math.log(max(call.duration_ns, 1000) / 1000) * 8)
        key = (call.start_ns // MINUTE_NS, call.source, call.source_kind, call.target, call.kind, bucket)
        self._counted[key] += 1
        if call.failed:
            self._failed[key] += 1

    def take(self, *, everything: bool = False) -> list[tuple[Any, ...]]:
        """The rows that were counted since the last time."""
        until = math.inf if everything else time.monotonic() - _PATIENCE_S
        while self._calls:
            span_id, call = next(iter(self._calls.items()))
            if call.since_s > until and len(self._calls) <= _MOST_WAITING:
                break
            del self._calls[span_id]
            if call.target:
                self._count(call)
        while self._servers:
            span_id, (_, since_s) = next(iter(self._servers.items()))
            if since_s > until and len(self._servers) <= _MOST_WAITING:
                break
            del self._servers[span_id]
        rows = [(*key, count, self._failed[key]) for key, count in self._counted.items()]
        self._counted.clear()
        self._failed.clear()
        return rows


def _target(promoted: dict[str, Any]) -> tuple[str, str]:
    """What a client's span says of the other side: its name and its type."""
    system = promoted.get("db.system.name") or promoted.get("db.system")
    if system:
        return str(system), "cache" if system in _CACHES else "database"
    host = promoted.get("peer.service") or promoted.get("server.address") or promoted.get("net.peer.name")
    return str(host or ""), "external"
