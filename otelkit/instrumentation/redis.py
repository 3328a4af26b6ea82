"""redis-py: commands, pipelines, clusters, messages and pools, sync and async. Which methods are wrapped, and why.

The library's own hooks know life cycles and failures, not commands, so these methods are wrapped, each at its class:

| class, of redis and of redis.asyncio | method | what it tells |
|---|---|---|
| `Redis` | `execute_command` | a command |
| `Pipeline` | `immediate_execute_command`, `execute` | a watched command; a pipeline |
| `RedisCluster`, `ClusterPipeline` | `execute_command`; `execute` | the same of a cluster |
| `PubSub` | `handle_message` | a message |
| `BlockingConnectionPool` | `get_connection` | a wait for a connection |
| `redis.backoff`'s | `compute` | a retry |
| `redis.exceptions.AskError` | `__init__` | a redirection within a cluster |

Arguments are never recorded: keys hold user ids, values hold anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType
from typing import Any

from otelkit.config.settings import Settings
from otelkit.instrumentation.redis_cluster import ClusterCommands
from otelkit.instrumentation.redis_commands import POOL_MARK, Commands
from otelkit.instrumentation.redis_names import cluster_pipeline, command, pipeline
from otelkit.instrumentation.redis_pools import Pools
from otelkit.instrumentation.redis_pubsub import Messages
from otelkit.instrumentation.redis_retries import Retries

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
Undo = Callable[[], None]


def install(settings: Settings) -> Undo:
    """Records what every client does; returns the undo."""
    import redis.asyncio.client
    import redis.asyncio.cluster
    import redis.asyncio.connection
    import redis.backoff
    import redis.client
    import redis.cluster
    import redis.connection
    import redis.exceptions

    commands, messages, pools = Commands(settings), Messages(settings), Pools()
    cluster = ClusterCommands(commands)
    commands.on_pool = pools.add
    restore: list[Undo] = [pools.close]
    codes: set[CodeType] = set()

    def wrap(cls: Any, method: str, decorate: Wrap) -> CodeType:
        original = cls.__dict__[method]
        wrapper = decorate(original)
        setattr(cls, method, wrapper)
        restore.append(functools.partial(_restore, cls, method, wrapper, original))
        return wrapper.__code__

    modules: tuple[tuple[Any, Any, Any, str], ...] = (
        (redis.client, redis.cluster, redis.connection, "sync"),
        (redis.asyncio.client, redis.asyncio.cluster, redis.asyncio.connection, "asynchronous"),
    )
    for clients, clusters, connections, way in modules:
        decorate, decorate_cluster = getattr(commands, way), getattr(cluster, way)
        described = cluster_pipeline(getattr(clusters, "TransactionStrategy", None))
        for cls, method, decorated, describe in (
            (clients.Redis, "execute_command", decorate, command),
            (clients.Pipeline, "immediate_execute_command", decorate, command),
            (clients.Pipeline, "execute", decorate, pipeline),
            (clusters.RedisCluster, "execute_command", decorate_cluster, command),
            (clusters.ClusterPipeline, "execute", decorate_cluster, described),
        ):
            codes.add(wrap(cls, method, functools.partial(decorated, describe=describe)))
        wrap(clients.PubSub, "handle_message", getattr(messages, way))
        wrap(connections.BlockingConnectionPool, "get_connection", getattr(pools, way))
    retries = Retries(frozenset(codes))
    for backoff in vars(redis.backoff).values():
        if isinstance(backoff, type) and "compute" in vars(backoff) and backoff is not redis.backoff.AbstractBackoff:
            wrap(backoff, "compute", retries.wrap)
    restore.append(cluster.count_redirections(redis.exceptions.MovedError, redis.exceptions.AskError))

    def undo() -> None:
        for step in restore:
            step()

    return undo


def silence_kombu() -> Undo:
    """Marks the connection pools of Celery's broker: its polls and deliveries are told of by Celery's own spans.

    Nothing on a pool of kombu's tells it from an application's, so the method that makes the pools is wrapped.
    Returns the undo.
    """
    from kombu.transport.redis import Channel

    cls: Any = Channel
    original = cls._get_pool

    def _get_pool(channel: Any, *args: Any, **options: Any) -> Any:
        pool = original(channel, *args, **options)
        setattr(pool, POOL_MARK, None)
        return pool

    cls._get_pool = _get_pool
    return functools.partial(_restore, cls, "_get_pool", _get_pool, original)


def _restore(cls: type, method: str, wrapper: object, original: object) -> None:
    if cls.__dict__.get(method) is wrapper:
        setattr(cls, method, original)
