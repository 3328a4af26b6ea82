"""What applications do with redis-py, one function a row of docs/instrumentation/redis.md, sync and async.

Each prepares outside of any trace, and does what is recorded within `servers.caller()`.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

import otelkit
from tests.support.redis_servers import Cluster, Watched

SECRET = "canary"
IMPATIENT = {"socket_timeout": 0.1, "retry_on_error": [redis.TimeoutError]}
SCRIPT = "return redis.call('GET', KEYS[1])"


@dataclass(frozen=True)
class Servers:
    """A single server, a cluster, one behind a sentinel, and one that knows what came with Redis 7.0."""

    url: str
    cluster: Cluster
    watched: Watched
    newer_port: int | None
    """None where no such program is installed."""

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 6379)

    def caller(self) -> AbstractContextManager[Any]:
        """The span that everything recorded is a child of."""
        return otelkit.span("caller")

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(self.url, **options)

    def aclient(self, **options: Any) -> Any:
        return redis.asyncio.Redis.from_url(self.url, **options)

    def newer(self) -> redis.Redis:
        if self.newer_port is None:
            pytest.skip("needs redis-server 7.0 or newer (apt-get install redis-server)")
        return redis.Redis(port=self.newer_port)

    def clustered(self) -> Any:
        return redis.cluster.RedisCluster(host="127.0.0.1", port=self.cluster.port)

    def aclustered(self) -> Any:
        return redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=self.cluster.port)


def command(servers: Servers) -> None:
    with servers.client() as client, servers.caller():
        client.set(SECRET, SECRET)


async def command_async(servers: Servers) -> None:
    async with servers.aclient() as client:
        with servers.caller():
            await client.set(SECRET, SECRET)


def other_database(servers: Servers) -> None:
    """By a Unix socket."""
    with redis.Redis(unix_socket_path=str(servers.watched.socket), db=3) as client, servers.caller():
        client.get(SECRET)


def outside_of_a_trace(servers: Servers) -> None:
    with servers.client() as client:
        client.ping()


def pipeline(servers: Servers) -> None:
    with servers.client() as client, servers.caller(), client.pipeline(transaction=False) as found:
        found.set(SECRET, SECRET).get(SECRET).execute()


async def pipeline_async(servers: Servers) -> None:
    async with servers.aclient() as client, client.pipeline(transaction=False) as found:
        with servers.caller():
            await found.set(SECRET, SECRET).get(SECRET).execute()


def empty_pipeline(servers: Servers) -> None:
    with servers.client() as client, servers.caller(), client.pipeline() as found:
        assert found.execute() == []


def transaction(servers: Servers) -> None:
    with servers.client() as client, servers.caller(), client.pipeline() as found:
        found.watch(SECRET)
        found.get(SECRET)
        found.multi()
        found.set(SECRET, SECRET).incr("number").execute()


async def transaction_async(servers: Servers) -> None:
    async with servers.aclient() as client, client.pipeline() as found:
        with servers.caller():
            await found.watch(SECRET)
            await found.get(SECRET)
            found.multi()
            await found.set(SECRET, SECRET).incr("number").execute()


def lost_transaction(servers: Servers) -> None:
    with servers.client() as client, servers.client() as other, client.pipeline() as found:
        found.watch(SECRET)
        other.set(SECRET, "changed")
        found.multi()
        with servers.caller(), pytest.raises(redis.WatchError):
            found.set(SECRET, SECRET).execute()


def cluster_command(servers: Servers) -> None:
    with servers.clustered() as client:
        with servers.caller():
            client.set(SECRET, SECRET)
        otelkit.flush()


async def cluster_command_async(servers: Servers) -> None:
    async with servers.aclustered() as client:
        with servers.caller():
            await client.set(SECRET, SECRET)
        otelkit.flush()


def cluster_pipeline(servers: Servers) -> None:
    with servers.clustered() as client, servers.caller(), client.pipeline() as found:
        for key in ("a", "b", "c", "d"):
            found.set(key, SECRET)
        found.execute()


async def cluster_pipeline_async(servers: Servers) -> None:
    async with servers.aclustered() as client, client.pipeline() as found:
        with servers.caller():
            for key in ("a", "b", "c", "d"):
                found.set(key, SECRET)
            await found.execute()


def cluster_transaction(servers: Servers) -> None:
    if not hasattr(redis.cluster, "TransactionStrategy"):
        pytest.skip(f"redis-py {redis.__version__} has no transactions in clusters (6.1 has)")
    with servers.clustered() as client, servers.caller(), client.pipeline(transaction=True) as found:
        found.set("{a}1", SECRET).set("{a}2", SECRET).execute()


def moved(servers: Servers) -> None:
    """A slot goes to another node behind the client's back."""
    cluster = servers.cluster
    key = cluster.key_of(cluster.nodes[0], "moved-")
    with servers.clustered() as client:
        slot = client.cluster_keyslot(key)
        _give(cluster, slot, cluster.nodes[1])
        with servers.caller():
            client.set(key, SECRET)
    cluster.admin(cluster.nodes[1], "DEL", key)
    _give(cluster, slot, cluster.nodes[0])


async def moved_async(servers: Servers) -> None:
    cluster = servers.cluster
    key = cluster.key_of(cluster.nodes[0], "moved-too-")
    async with servers.aclustered() as client:
        slot = await client.cluster_keyslot(key)
        _give(cluster, slot, cluster.nodes[1])
        with servers.caller():
            await client.set(key, SECRET)
    cluster.admin(cluster.nodes[1], "DEL", key)
    _give(cluster, slot, cluster.nodes[0])


async def moved_in_a_pipeline_async(servers: Servers) -> None:
    cluster = servers.cluster
    key = cluster.key_of(cluster.nodes[0], "moved-in-a-pipeline-")
    async with servers.aclustered() as client:
        slot = await client.cluster_keyslot(key)
        _give(cluster, slot, cluster.nodes[1])
        async with client.pipeline() as found:
            with servers.caller():
                await found.set(key, SECRET).get(key).execute()
    cluster.admin(cluster.nodes[1], "DEL", key)
    _give(cluster, slot, cluster.nodes[0])


def asked(servers: Servers) -> None:
    """A slot is on its way to another node."""
    cluster = servers.cluster
    source, target = cluster.nodes[:2]
    key = cluster.key_of(source, "asked-")
    with servers.clustered() as client:
        slot = client.cluster_keyslot(key)
        cluster.admin(target, "CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        cluster.admin(source, "CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        with servers.caller():
            client.get(key)
    for node in (source, target):
        cluster.admin(node, "CLUSTER SETSLOT", slot, "STABLE")


def _give(cluster: Cluster, slot: int, owner: Any) -> None:
    for node in (owner, *cluster.nodes):
        cluster.admin(node, "CLUSTER SETSLOT", slot, "NODE", owner.id)


def moved_error(servers: Servers) -> None:
    """A client that knows no clusters."""
    cluster = servers.cluster
    key = cluster.key_of(cluster.nodes[1], SECRET)
    with (
        redis.Redis(host="127.0.0.1", port=cluster.port) as client,
        servers.caller(),
        pytest.raises(redis.ResponseError),
    ):
        client.get(key)


def sentinel(servers: Servers) -> None:
    watcher = redis.sentinel.Sentinel([("127.0.0.1", servers.watched.sentinel_port)])
    with watcher.master_for("mymaster") as client:
        client.ping()
        with servers.caller():
            client.set(SECRET, SECRET)
    for each in watcher.sentinels:
        each.close()


async def sentinel_async(servers: Servers) -> None:
    watcher = redis.asyncio.sentinel.Sentinel([("127.0.0.1", servers.watched.sentinel_port)])
    async with watcher.master_for("mymaster") as client:
        await client.ping()
        with servers.caller():
            await client.set(SECRET, SECRET)
        await client.connection_pool.disconnect()
    for each in watcher.sentinels:
        await each.connection_pool.disconnect()


def script(servers: Servers) -> None:
    """The server does not know it: redis-py loads it and asks again."""
    with servers.client() as client:
        client.script_flush()
        with servers.caller():
            client.register_script(SCRIPT)(keys=[SECRET])


async def script_async(servers: Servers) -> None:
    async with servers.aclient() as client:
        await client.script_flush()
        with servers.caller():
            await client.register_script(SCRIPT)(keys=[SECRET])


def script_with_an_error(servers: Servers) -> None:
    with servers.client() as client, servers.caller(), pytest.raises(redis.ResponseError):
        client.eval(f"return redis.error_reply('{SECRET.upper()} {SECRET}')", 0)


def blocking(servers: Servers) -> None:
    with servers.client() as client, servers.caller():
        assert client.blpop(SECRET, timeout=1) is None


async def blocking_async(servers: Servers) -> None:
    async with servers.aclient() as client:
        with servers.caller():
            assert await client.blpop(SECRET, timeout=1) is None


def blocking_stream(servers: Servers) -> None:
    with servers.client() as client, servers.caller():
        client.xread({SECRET: "$"}, block=50)
        client.xread({SECRET: "0"}, count=1)


def blocking_group(servers: Servers) -> None:
    with servers.client() as client:
        client.xgroup_create(SECRET, "readers", mkstream=True)
        with servers.caller():
            client.xreadgroup("readers", SECRET, {SECRET: ">"}, count=1, block=50, noack=True)
            client.xreadgroup("readers", SECRET, {SECRET: ">"})


BLOCKING: dict[str, tuple[str | float, ...]] = {
    "BLMOVE": (SECRET, "other", "LEFT", "LEFT", 0.05),
    "BRPOP": (SECRET, 0.05),
    "BRPOPLPUSH": (SECRET, "other", 0.05),
    "BZPOPMAX": (SECRET, 0.05),
    "BZPOPMIN": (SECRET, 0.05),
    "WAIT": (1, 50),
}


BLOCKING_SINCE_7: dict[str, tuple[str | float, ...]] = {
    "BLMPOP": (0.05, 1, SECRET, "LEFT"),
    "BZMPOP": (0.05, 1, SECRET, "MIN"),
}


def all_that_block(servers: Servers) -> None:
    """Those that Redis 6.2 has."""
    with servers.client() as client, servers.caller():
        for name, arguments in BLOCKING.items():
            client.execute_command(name, *arguments)


def all_that_block_since_7(servers: Servers) -> None:
    with servers.newer() as client, servers.caller():
        for name, arguments in BLOCKING_SINCE_7.items():
            client.execute_command(name, *arguments)


def stream(servers: Servers) -> None:
    """Sent in one trace, processed in the same by whoever reads it."""
    with servers.client() as client:
        with servers.caller():
            client.xadd("orders", otelkit.message_context.with_context({"order": SECRET}))
        for _, entries in client.xread({"orders": "0"}):
            for _, fields in entries:
                with otelkit.message_context.process("orders", fields):
                    client.get(SECRET)


async def stream_in_a_trace_async(servers: Servers) -> None:
    """Processed below a span of the reader's own: its child, with a link to the sender."""
    async with servers.aclient() as client:
        with otelkit.span("sender"):
            await client.xadd("orders", otelkit.message_context.with_context({"order": SECRET}))
        ((_, entries),) = await client.xread({"orders": "0"})
        with servers.caller(), otelkit.message_context.process("orders", entries[0][1]):
            pass


def handled(servers: Servers) -> None:
    """The handler's own command is part of the message's trace."""
    seen: list[Any] = []

    def handle(message: Any) -> None:
        client.get(SECRET)
        seen.append(message)

    with servers.client() as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(**{SECRET: handle})
        _until(lambda: listener.get_message(timeout=0.1) or client.pubsub_numsub(SECRET)[0][1])
        with servers.caller():
            client.publish(SECRET, json.dumps(otelkit.message_context.with_context({"order": SECRET})))
        _until(lambda: listener.get_message(timeout=0.1) or seen)


def handled_by_shard(servers: Servers) -> None:
    """By a server that is no cluster."""
    seen: list[Any] = []
    with servers.newer() as client, client.pubsub() as listener:
        listener.ssubscribe(**{SECRET: seen.append})
        assert listener.get_message(timeout=5)["type"] == "ssubscribe"
        with servers.caller():
            told = json.dumps(otelkit.message_context.with_context({"order": SECRET}))
            client.execute_command("SPUBLISH", SECRET, told)
        _until(lambda: listener.get_message(timeout=0.1) or seen)


def handled_by_shard_of_a_cluster(servers: Servers) -> None:
    """Its clients listen at the node that has the channel's slot."""
    servers.newer().close()
    seen: list[Any] = []
    with servers.clustered() as client:
        listener = client.pubsub()
        listener.ssubscribe(**{SECRET: seen.append})
        _until(lambda: listener.get_sharded_message(timeout=1))
        with servers.caller():
            client.spublish(SECRET, json.dumps(otelkit.message_context.with_context({"order": SECRET})))
        _until(lambda: listener.get_sharded_message(timeout=0.1) or seen)
        listener.close()


async def handled_async(servers: Servers) -> None:
    seen: list[Any] = []

    async def handle(message: Any) -> None:
        await client.get(SECRET)
        seen.append(message)

    async with servers.aclient() as client, client.pubsub() as listener:
        await listener.psubscribe(**{f"{SECRET}*": handle})
        assert (await listener.get_message(timeout=5))["type"] == "psubscribe"
        with servers.caller():
            await client.publish(SECRET, json.dumps(otelkit.message_context.with_context({"order": SECRET})))
        while not seen:
            await listener.get_message(timeout=0.1)


def handler_that_fails(servers: Servers) -> None:
    def handle(message: Any) -> None:
        raise ValueError("no")

    with servers.client() as client, client.pubsub() as listener:
        listener.subscribe(**{SECRET: handle})
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        client.publish(SECRET, SECRET)
        with servers.caller(), pytest.raises(ValueError, match="no"):
            _until(lambda: listener.get_message(timeout=0.1))


def received(servers: Servers) -> None:
    """By the application itself, below a span of its own."""
    with servers.client() as client, client.pubsub() as listener:
        listener.subscribe(SECRET)
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        client.publish(SECRET, SECRET)
        with servers.caller():
            assert listener.get_message(timeout=5)["data"] == SECRET.encode()


async def received_async(servers: Servers) -> None:
    """Outside of any trace, of a message that says whose it is."""
    async with servers.aclient() as client, client.pubsub() as listener:
        await listener.subscribe(SECRET)
        assert (await listener.get_message(timeout=5))["type"] == "subscribe"
        with servers.caller():
            await client.publish(SECRET, json.dumps(otelkit.message_context.with_context({"order": SECRET})))
        assert await listener.get_message(timeout=5)


def received_outside_of_a_trace(servers: Servers) -> None:
    with servers.client() as client, client.pubsub() as listener:
        listener.subscribe("news:sports")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        client.publish("news:sports", SECRET)
        assert listener.get_message(timeout=5)["data"] == SECRET.encode()


def retried(servers: Servers) -> None:
    """The server pauses longer than the client waits, but not than it tries."""
    retry = Retry(ConstantBackoff(0.02), 20)
    with servers.client() as admin, servers.client(retry=retry, **IMPATIENT) as client:
        client.ping()
        admin.execute_command("CLIENT PAUSE", 250)
        with servers.caller():
            client.get(SECRET)


async def retried_async(servers: Servers) -> None:
    retry = AsyncRetry(ConstantBackoff(0.02), 20)
    async with servers.aclient() as admin, servers.aclient(retry=retry, **IMPATIENT) as client:
        await client.ping()
        await admin.execute_command("CLIENT PAUSE", 250)
        with servers.caller():
            await client.get(SECRET)


def timeout(servers: Servers) -> None:
    with servers.client() as admin, servers.client(socket_timeout=0.1, retry=Retry(NoBackoff(), 0)) as client:
        client.ping()
        admin.execute_command("CLIENT PAUSE", 200)
        with servers.caller(), pytest.raises(redis.TimeoutError):
            client.get(SECRET)
        time.sleep(0.2)


def wrong_type(servers: Servers) -> None:
    with servers.client() as client:
        client.rpush(SECRET, SECRET)
        with servers.caller(), pytest.raises(redis.ResponseError):
            client.get(SECRET)


def no_such_command(servers: Servers) -> None:
    with servers.client() as client, servers.caller(), pytest.raises(redis.ResponseError):
        client.execute_command("NOSUCHCOMMAND", SECRET)


async def cancelled_async(servers: Servers) -> None:
    async with servers.aclient() as client:
        with servers.caller(), suppress(asyncio.TimeoutError):
            await asyncio.wait_for(client.blpop(SECRET), 0.1)


def lookups(servers: Servers) -> None:
    with servers.client() as client:
        client.mset({"cart:1": 1, "session:1": 1, SECRET: 1})
        client.hset("cart:h", "f", 1)
        client.get("cart:1")
        client.get(b"cart:2")
        client.mget("cart:1", "session:1", "session:2", SECRET, "other")
        client.hmget("cart:h", "f", "g")


def pool(servers: Servers) -> None:
    """Two threads, one connection."""
    with redis.Redis(
        connection_pool=redis.BlockingConnectionPool.from_url(servers.url, max_connections=1, timeout=0.1)
    ) as client:
        waiter = threading.Thread(target=lambda: client.blpop(SECRET, timeout=1))
        waiter.start()
        _until(lambda: client.connection_pool.pool.qsize() == 0)
        with servers.caller(), pytest.raises(redis.ConnectionError):
            client.get(SECRET)
        waiter.join()
        otelkit.flush()
        client.connection_pool.disconnect()


async def pool_async(servers: Servers) -> None:
    waiting = redis.asyncio.BlockingConnectionPool.from_url(servers.url, max_connections=1, timeout=0.1)
    client: Any
    async with redis.asyncio.Redis(connection_pool=waiting) as client:
        waiter = asyncio.create_task(client.blpop(SECRET, timeout=1))
        await asyncio.sleep(0.05)
        with servers.caller(), pytest.raises(redis.ConnectionError):
            await client.get(SECRET)
        await waiter
        otelkit.flush()
        await waiting.disconnect()


def _until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
