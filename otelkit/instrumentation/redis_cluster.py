"""Redis clusters: one span a command or pipeline, whatever nodes it takes, and what was redirected.

A cluster's client has no connection pool of its own: what is known of it is kept where its pipelines find it too, at
the manager of its nodes or, where that has fixed attributes (asyncio), at the client.
Redirections are seen where redis-py makes an exception of the server's MOVED or ASK, which it then follows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry.metrics import get_meter

from otelkit import semconv
from otelkit.instrumentation import instruments
from otelkit.instrumentation.redis_commands import POOL_MARK, Call, Commands, Describe, Wrapping
from otelkit.instrumentation.replacing import replace
from otelkit.runtime import guard


class _UnderWay:
    """A command of a cluster's that is under way, and how often it was redirected."""

    __slots__ = ("call", "times", "token")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.times = 0
        self.token: Token[_UnderWay | None] = _under_way.set(self)


_under_way: ContextVar[_UnderWay | None] = ContextVar("otelkit_redis_cluster", default=None)
"""A pipeline sends what was redirected as commands of their own, and asks its nodes in tasks: all are one call."""


class ClusterCommands(Wrapping[_UnderWay]):
    """The commands of `RedisCluster` and `ClusterPipeline`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        meter = get_meter("otelkit.redis")
        self._redirections = instruments.counter(meter, semconv.REDIS_REDIRECTIONS)

    def begin(self, client: Any, args: tuple[Any, ...], describe: Describe) -> _UnderWay | None:
        if _under_way.get() is not None:
            return None
        try:
            cluster = getattr(client, "cluster_client", None) or getattr(client, "_client", client)
            holder = cluster.nodes_manager if hasattr(cluster.nodes_manager, "__dict__") else cluster
            pool = vars(holder).get(POOL_MARK)
            if pool is None or pool.owner is not self._commands:
                pool = self._commands.pool(holder, _attributes(cluster.nodes_manager))
            described = describe(client, args)
            return _UnderWay(self._commands.start(pool, described, args)) if described is not None else None
        except Exception:  # noqa: BLE001 - a command is sent whatever telemetry does
            guard.report("the start of a Redis command's telemetry")
            return None

    def end(self, call: _UnderWay, args: tuple[Any, ...], result: Any) -> None:
        _leave(call)
        self._commands.end(call.call, args, result)

    def fail(self, call: _UnderWay, error: BaseException) -> None:
        _leave(call)
        self._commands.fail(call.call, error)

    def count_redirections(self, moved: type[Exception], ask: type[Exception]) -> Callable[[], None]:
        """Counts what MOVED and ASK redirect, by the making of their exceptions; returns the undo."""
        cls: Any = ask
        original = cls.__init__

        def __init__(error: Any, *args: Any, **options: Any) -> None:  # noqa: N807 - it takes its place
            original(error, *args, **options)
            redirected = _under_way.get()
            if redirected is not None:
                self._redirected(redirected, "MOVED" if isinstance(error, moved) else "ASK")

        return replace(cls, "__init__", __init__)

    @guard.guard("the count of a redirection")
    def _redirected(self, redirected: _UnderWay, code: str) -> None:
        redirected.times += 1
        call = redirected.call
        if call.span is not None:
            call.span.set_attribute("redis.client.operation.redirections", redirected.times)
        self._redirections.add(1, {**call.kind.labels, "db.response.status_code": code})


def _leave(call: _UnderWay) -> None:
    # A coroutine that is closed by the event loop ends in another context: there is nothing to restore.
    with suppress(ValueError):
        _under_way.reset(call.token)


def _attributes(nodes: Any) -> dict[str, Any]:
    """A cluster's first start node: which node answers is known when the span has begun, and changes."""
    attributes: dict[str, Any] = {"db.system.name": "redis", "db.namespace": "0"}
    first = next(iter(nodes.startup_nodes.values()), None)
    if first is not None:
        attributes["server.address"] = str(first.host)
        attributes["server.port"] = int(first.port)
    return attributes
