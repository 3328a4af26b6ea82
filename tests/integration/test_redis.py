"""redis-py against a real Redis, sync and async: commands, pipelines, cache hits, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.connection
import redis.cluster
import redis.connection
from redis.backoff import NoBackoff
from redis.retry import Retry

import otelkit
from tests.integration.conftest import Exported


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as found:
        found.flushdb()
        yield found


def commands(exported: Exported) -> list[str]:
    """The names of the spans of commands, in order."""
    return [span.name for span in exported.spans if span.scope == "otelkit.redis"]


def test_a_command_is_one_span_without_its_arguments(exported: Exported, client: redis.Redis) -> None:
    """Name, kind, parent and attributes follow the conventions; keys and values are not recorded."""
    with otelkit.span("caller"):
        client.set("canary-key", "canary-value")
    span, caller = exported.span("SET"), exported.span("caller")
    assert (span.parent_id, span.span.kind) == (caller.span_id, 3)
    options = client.connection_pool.connection_kwargs
    assert span.attributes == {
        "db.system.name": "redis",
        "db.namespace": str(options.get("db", 0)),
        "db.operation.name": "SET",
        "server.address": options["host"],
        "server.port": options["port"],
    }
    assert "canary" not in str(exported.sink.spans)
    assert exported.total("db.client.operation.duration", db__operation__name="SET") == 1


def test_commands_outside_of_a_trace_are_measured_and_make_no_trace(exported: Exported, client: redis.Redis) -> None:
    """A poll begins no trace."""
    client.ping()
    assert commands(exported) == []
    assert exported.total("db.client.operation.duration", db__operation__name="PING") == 1


def test_hits_and_misses(exported: Exported, client: redis.Redis) -> None:
    """Nil results of GET, MGET and HGET are misses, each key by itself."""
    client.set("a", 1)
    client.hset("h", "f", 1)
    client.get("a")
    client.get("none")
    client.mget("a", "none", "neither")
    client.hget("h", "f")
    client.hget("h", "none")
    assert exported.total("redis.client.cache.lookups", redis__cache__result="hit") == 3
    assert exported.total("redis.client.cache.lookups", redis__cache__result="miss") == 4


@pytest.mark.parametrize(("transaction", "name"), [(True, "MULTI"), (False, "PIPELINE")])
def test_a_pipeline_is_one_span(exported: Exported, client: redis.Redis, transaction: bool, name: str) -> None:
    """With the number of its commands."""
    with otelkit.span("caller"), client.pipeline(transaction=transaction) as pipeline:
        pipeline.set("a", 1)
        pipeline.get("a")
        pipeline.execute()
    assert commands(exported) == [name]
    assert exported.span(name).attributes["db.operation.batch.size"] == 2


def test_watched_commands_are_spans_of_their_own(exported: Exported, client: redis.Redis) -> None:
    """Between WATCH and MULTI commands run at once."""
    with otelkit.span("caller"), client.pipeline() as pipeline:
        pipeline.watch("a")
        pipeline.get("a")
        pipeline.multi()
        pipeline.set("a", 1)
        pipeline.execute()
    assert commands(exported) == ["WATCH", "GET", "MULTI"]


def test_errors(exported: Exported, client: redis.Redis) -> None:
    """An error's type marks the span; its text, which repeats arguments, does not appear."""
    with otelkit.span("caller"), pytest.raises(redis.ResponseError):
        client.execute_command("NOSUCHCOMMAND", "canary")
    span = exported.span("NOSUCHCOMMAND")
    assert span.attributes["error.type"].endswith("ResponseError")
    assert span.span.status.code == 2
    assert "canary" not in str(exported.sink.spans)


def test_a_server_that_is_not_there(exported: Exported) -> None:
    """A connection error ends the span as well."""
    nowhere = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0), socket_connect_timeout=1)
    with otelkit.span("caller"), pytest.raises(redis.ConnectionError):
        nowhere.get("a")
    assert exported.span("GET").attributes["error.type"].endswith("ConnectionError")


def test_async_clients(exported: Exported, redis_url: str) -> None:
    """Commands and pipelines of redis.asyncio, with the right parents in concurrent tasks."""

    async def main() -> None:
        async def one(client: Any, number: int) -> None:
            with otelkit.span(f"task {number}"):
                await client.get("a")
                async with client.pipeline(transaction=False) as pipeline:
                    await pipeline.set("a", 1).get("a").execute()

        async with redis.asyncio.Redis.from_url(redis_url) as client:
            await asyncio.gather(*(one(client, number) for number in range(3)))

    asyncio.run(main())
    parents = {exported.span(f"task {number}").span_id for number in range(3)}
    for name in ("GET", "PIPELINE"):
        assert {span.parent_id for span in exported.spans if span.name == name} == parents
        assert commands(exported).count(name) == 3


def test_contrib_instead(start: Callable[..., Exported], redis_url: str) -> None:
    """By setting, contrib's instrumentation records the commands, and otelkit's does not."""
    exported = start(instrument={"redis": "contrib"})
    with otelkit.span("caller"), redis.Redis.from_url(redis_url) as client:
        client.get("a")
    scopes = [span.scope for span in exported.spans if span.name == "GET"]
    assert scopes == ["opentelemetry.instrumentation.redis"]


def test_switched_off_again(start: Callable[..., Exported]) -> None:
    """After shutdown every method is the library's own."""
    before = methods()
    start()
    wrapped = {name for name, method in methods().items() if method is not before[name]}
    assert {name.rpartition(".")[2] for name in wrapped} == {
        "execute_command",
        "immediate_execute_command",
        "execute",
        "handle_message",
        "get_connection",
        "compute",
        "__init__",
    }
    otelkit.shutdown()
    assert methods() == before


def methods() -> dict[str, Any]:
    """What is wrapped, and all that stands beside it in the same classes."""
    modules: tuple[Any, ...] = (redis.client, redis.cluster, redis.connection, redis.backoff, redis.exceptions)
    asynchronous = (redis.asyncio.client, redis.asyncio.cluster, redis.asyncio.connection)
    return {
        f"{cls.__module__}.{cls.__name__}.{name}": method
        for module in (*modules, *asynchronous)
        for cls in vars(module).values()
        if isinstance(cls, type) and cls.__module__ == module.__name__
        for name, method in vars(cls).items()
        if callable(method)
    }
