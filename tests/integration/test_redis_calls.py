"""Every row of docs/instrumentation/redis.md against real servers: what is recorded, and nothing else."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import Any

import pytest
import redis

from examples.shop.redis_server import RedisUnavailable
from tests.integration import redis_calls as do
from tests.integration.conftest import Exported
from tests.integration.redis_calls import Servers
from tests.support.redis_servers import redis_cluster, redis_since_7, watched_redis

CLIENT, CONSUMER, INTERNAL = 3, 5, 1
FAILED = 2
ERRORS = "redis.exceptions."
OF_EACH = {"db.system.name", "db.namespace", "db.operation.name", "server.address"}
OF_SOME = {"server.port", "error.type", "db.response.status_code"}
DURATION, WAITED = "db.client.operation.duration", "redis.client.blocking.duration"


@pytest.fixture(scope="session")
def servers(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All of them, once a test process."""
    folder = tmp_path_factory.mktemp("redis")
    try:
        with redis_cluster(folder) as cluster, watched_redis(folder) as watched, redis_since_7(folder) as newer:
            yield Servers(redis_url, cluster, watched, newer)
    except RedisUnavailable as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Span:
    """A span that is expected: all of its attributes but those of where the command went, which `to` names."""

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    to: str = "single"
    kind: int = CLIENT
    failed: bool = False
    parent: str | None = "caller"
    linked: str | None = None


def got(name: str, to: str = "single", /, **more: Any) -> Span:
    """A command's span: keywords with `__` for dots are its other attributes."""
    return Span(name, {"db.operation.name": name, **dotted(more)}, to)


def failed(name: str, error: str | EllipsisType, to: str = "single", /, **more: Any) -> Span:
    """The span of a command that failed."""
    return Span(name, {"db.operation.name": name, "error.type": error, **dotted(more)}, to, failed=True)


def message(operation: str, name: str | None = None, /, *, failed: bool = False, **more: Any) -> Span:
    """A message's span."""
    attributes = {"messaging.system": "redis", "messaging.operation.name": operation}
    attributes["messaging.operation.type"] = operation
    if name is not None:
        attributes["messaging.destination.name"] = name
    if failed:
        attributes["error.type"] = "ValueError"
    return Span(f"{operation} {name}" if name else operation, attributes, "nowhere", CONSUMER, failed=failed, **more)


def dotted(names: Mapping[str, Any]) -> dict[str, Any]:
    """`a__b` is `a.b`."""
    return {name.replace("__", "."): value for name, value in names.items()}


@dataclass(frozen=True)
class Row:
    """What is done, and what is recorded of it; `...` stands for at least one."""

    act: Callable[[Servers], Any]
    spans: tuple[Span, ...]
    metrics: tuple[tuple[str, Mapping[str, Any], float | EllipsisType], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    caller: bool = True


def measured(name: str, value: float | EllipsisType, /, **labels: Any) -> tuple[str, Mapping[str, Any], Any]:
    """A metric's value over the series with these labels."""
    return name, labels, value


def of(operation: str, value: float = 1, /, **labels: Any) -> tuple[str, Mapping[str, Any], Any]:
    """The number of measurements of a command."""
    return DURATION, {"db__operation__name": operation, **labels}, value


NOSCRIPT = {"db__response__status_code": "NOSCRIPT"}
SCRIPTS = (got("EVALSHA", **NOSCRIPT), got("SCRIPT"), got("EVALSHA"))
MOVED = {"redis__client__operation__redirections": 1}
BLOCKING = {"redis__client__operation__blocking": True}
WAITS = (measured(WAITED, 1, db__operation__name="BLPOP"), of("BLPOP", 0))
IN_POOL = (
    measured("db.client.connection.max", 1),
    measured("db.client.connection.timeouts", 1),
    measured("db.client.connection.wait_time", 2),
    measured("db.client.connection.count", 1, db__client__connection__state="idle"),
    measured("db.client.connection.count", 0, db__client__connection__state="used"),
    measured("db.client.connection.pending_requests", 0),
)
IN_HANDLER = Span("GET", {"db.operation.name": "GET"}, parent="process")
IN_CLUSTER = (
    measured("db.client.connection.count", ..., db__client__connection__state="idle"),
    measured("db.client.connection.count", 0, db__client__connection__state="used"),
)
HANDLED = measured("messaging.process.duration", 1, messaging__system="redis", messaging__operation__name="process")


def consumed(operation: str) -> tuple[str, Mapping[str, Any], Any]:
    """One message was."""
    return measured("messaging.client.consumed.messages", 1, messaging__operation__name=operation)


def redirected(code: str, operation: str) -> tuple[str, Mapping[str, Any], Any]:
    """One command was."""
    name = "redis.client.redirections"
    return measured(name, 1, db__response__status_code=code, db__operation__name=operation)


ROWS = [
    Row(do.command, (got("SET"),), (of("SET"),)),
    Row(do.command_async, (got("SET"),), (of("SET"),)),
    Row(do.other_database, (got("GET", "socket"),), (of("GET", db__namespace="3"),)),
    Row(do.outside_of_a_trace, (), (of("PING"),), caller=False),
    Row(do.pipeline, (got("PIPELINE", db__operation__batch__size=2),), (of("PIPELINE"),)),
    Row(do.pipeline_async, (got("PIPELINE", db__operation__batch__size=2),), (of("PIPELINE"),)),
    Row(do.empty_pipeline, ()),
    Row(do.transaction, (got("WATCH"), got("GET"), got("MULTI", db__operation__batch__size=2)), (of("MULTI"),)),
    Row(do.transaction_async, (got("WATCH"), got("GET"), got("MULTI", db__operation__batch__size=2)), (of("MULTI"),)),
    Row(
        do.lost_transaction,
        (failed("MULTI", ERRORS + "WatchError"),),
        (of("MULTI", error__type=ERRORS + "WatchError"),),
    ),
    Row(do.cluster_command, (got("SET", "cluster"),), (of("SET"), *IN_CLUSTER)),
    Row(do.cluster_command_async, (got("SET", "cluster"),), (of("SET"), *IN_CLUSTER)),
    Row(do.cluster_pipeline, (got("PIPELINE", "cluster", db__operation__batch__size=4),), (of("PIPELINE"),)),
    Row(do.cluster_pipeline_async, (got("PIPELINE", "cluster", db__operation__batch__size=4),), (of("PIPELINE"),)),
    Row(do.cluster_transaction, (got("MULTI", "cluster", db__operation__batch__size=2),), (of("MULTI"),)),
    Row(do.moved, (got("SET", "cluster", **MOVED),), (of("SET"), redirected("MOVED", "SET"))),
    Row(do.moved_async, (got("SET", "cluster", **MOVED),), (of("SET"), redirected("MOVED", "SET"))),
    Row(
        do.moved_in_a_pipeline_async,
        (got("PIPELINE", "cluster", db__operation__batch__size=2, redis__client__operation__redirections=...),),
        (of("PIPELINE"), of("SET", 0), measured("redis.client.redirections", ..., db__operation__name="PIPELINE")),
    ),
    Row(do.asked, (got("GET", "cluster", **MOVED),), (of("GET"), redirected("ASK", "GET"))),
    Row(
        do.moved_error,
        # redis-py 5.0 has no class for it outside of cluster clients.
        (failed("GET", ..., "cluster", db__response__status_code="MOVED"),),
        (of("GET", db__response__status_code="MOVED"),),
    ),
    Row(do.sentinel, (got("SET", "sentinel"),), (of("SET", server__address="mymaster"),)),
    Row(do.sentinel_async, (got("SET", "sentinel"),), (of("SET", server__address="mymaster"),)),
    Row(do.script, SCRIPTS, (of("EVALSHA", 2), of("EVALSHA", 1, **NOSCRIPT), of("SCRIPT", 2))),
    Row(do.script_async, SCRIPTS, (of("EVALSHA", 2), of("EVALSHA", 1, **NOSCRIPT), of("SCRIPT", 2))),
    Row(do.script_with_an_error, (failed("EVAL", ERRORS + "ResponseError"),), (of("EVAL"),)),
    Row(do.blocking, (got("BLPOP", **BLOCKING),), WAITS),
    Row(do.blocking_async, (got("BLPOP", **BLOCKING),), WAITS),
    Row(
        do.blocking_stream,
        (got("XREAD", **BLOCKING), got("XREAD")),
        (measured(WAITED, 1, db__operation__name="XREAD"), of("XREAD")),
    ),
    Row(
        do.blocking_group,
        (got("XREADGROUP", **BLOCKING), got("XREADGROUP")),
        (measured(WAITED, 1, db__operation__name="XREADGROUP"), of("XREADGROUP")),
    ),
    Row(
        do.all_that_block,
        tuple(got(name, **BLOCKING) for name in do.BLOCKING),
        tuple(measured(WAITED, 1, db__operation__name=name) for name in do.BLOCKING),
    ),
    Row(
        do.all_that_block_since_7,
        tuple(got(name, "newer", **BLOCKING) for name in do.BLOCKING_SINCE_7),
        tuple(measured(WAITED, 1, db__operation__name=name) for name in do.BLOCKING_SINCE_7),
    ),
    Row(
        do.stream,
        (
            got("XADD"),
            message("process", "orders", parent="caller"),
            Span("GET", {"db.operation.name": "GET"}, parent="process orders"),
        ),
    ),
    Row(
        do.stream_in_a_trace_async,
        (
            Span("sender", {}, "nowhere", INTERNAL, parent=None),
            Span("XADD", {"db.operation.name": "XADD"}, parent="sender"),
            message("process", "orders", linked="sender"),
        ),
    ),
    Row(
        do.handled,
        (got("PUBLISH"), message("process", parent=None, linked="caller"), IN_HANDLER),
        (consumed("process"), HANDLED),
    ),
    Row(
        do.handled_by_shard,
        (got("SPUBLISH", "newer"), message("process", parent=None, linked="caller")),
        (of("SPUBLISH"), consumed("process"), HANDLED),
    ),
    Row(
        do.handled_by_shard_of_a_cluster,
        (got("SPUBLISH", "cluster"), message("process", parent=None, linked="caller")),
        (of("SPUBLISH"), consumed("process"), HANDLED),
    ),
    Row(
        do.handled_async,
        (got("PUBLISH"), message("process", parent=None, linked="caller"), IN_HANDLER),
        (consumed("process"), HANDLED),
    ),
    Row(
        do.handler_that_fails,
        (message("process", failed=True),),
        (measured("messaging.process.duration", 1, error__type="ValueError"),),
    ),
    Row(do.received, (message("receive"),), (consumed("receive"),)),
    Row(do.received_async, (got("PUBLISH"), message("receive", parent=None, linked="caller")), (consumed("receive"),)),
    Row(
        do.received_outside_of_a_trace,
        (),
        (measured("messaging.client.consumed.messages", 1, messaging__destination__name="news:"),),
        {"redis_prefixes": "news:"},
        caller=False,
    ),
    Row(
        do.retried,
        (got("GET", redis__client__operation__retry_attempts=...),),
        (
            of("GET"),
            measured("redis.client.retries", ..., error__type=ERRORS + "TimeoutError", db__operation__name="GET"),
        ),
    ),
    Row(
        do.retried_async,
        (got("GET", redis__client__operation__retry_attempts=...),),
        (
            of("GET"),
            measured("redis.client.retries", ..., error__type=ERRORS + "TimeoutError", db__operation__name="GET"),
        ),
    ),
    Row(do.timeout, (failed("GET", ERRORS + "TimeoutError"),), (of("GET", error__type=ERRORS + "TimeoutError"),)),
    Row(
        do.wrong_type,
        (failed("GET", ERRORS + "ResponseError", db__response__status_code="WRONGTYPE"),),
        (of("GET", db__response__status_code="WRONGTYPE"),),
    ),
    Row(
        do.no_such_command,
        (failed("NOSUCHCOMMAND", ERRORS + "ResponseError", db__response__status_code="ERR"),),
        (of("NOSUCHCOMMAND", db__response__status_code="ERR"),),
    ),
    Row(
        do.cancelled_async,
        (got("BLPOP", error__type="asyncio.exceptions.CancelledError", **BLOCKING),),
        (measured(WAITED, 1, error__type="asyncio.exceptions.CancelledError"),),
    ),
    Row(do.lookups, (), (measured("redis.client.cache.lookups", 5, redis__cache__result="hit"),), caller=False),
    Row(
        do.lookups,
        (),
        (
            measured("redis.client.cache.lookups", 3, redis__key__prefix="cart:", redis__cache__result="hit"),
            measured("redis.client.cache.lookups", 2, redis__key__prefix="cart:", redis__cache__result="miss"),
            measured("redis.client.cache.lookups", 1, redis__key__prefix="session:", redis__cache__result="hit"),
            measured("redis.client.cache.lookups", 1, redis__key__prefix="session:", redis__cache__result="miss"),
            measured("redis.client.cache.lookups", 1, redis__key__prefix="ca", redis__cache__result="hit"),
            measured("redis.client.cache.lookups", 1, redis__key__prefix="_OTHER", redis__cache__result="miss"),
        ),
        {"redis_prefixes": "ca,cart:,session:"},
        caller=False,
    ),
    Row(do.pool, (failed("GET", ERRORS + "ConnectionError"),), IN_POOL),
    Row(do.pool_async, (failed("GET", ERRORS + "ConnectionError"),), IN_POOL),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.act.__name__ + ("_by_prefix" if row.settings else ""))
def test_what_is_recorded(row: Row, start: Callable[..., Exported], servers: Servers) -> None:
    """Spans with parent, kind, status, links and all attributes, metrics with their labels, and no argument."""
    with servers.client() as client:
        client.flushdb()
    exported = start(runtime_metrics=False, **row.settings)
    done = row.act(servers)
    if inspect.iscoroutine(done):
        asyncio.run(done)
    spans = exported.spans
    assert sorted(span.name for span in spans) == sorted([each.name for each in row.spans] + ["caller"] * row.caller)
    found = [span for span in spans if span.name != "caller"]
    ids = {span.name: span.span_id for span in spans}
    used = []
    for expected in row.spans:
        span = next(each for each in found if each.name == expected.name and each not in used)
        used.append(span)
        assert span.span.kind == expected.kind, expected.name
        assert (span.span.status.code == FAILED) is expected.failed, expected.name
        assert span.parent_id == (ids[expected.parent] if expected.parent is not None else ""), expected.name
        links = [link.span_id.hex() for link in span.span.links]
        assert links == ([ids[expected.linked]] if expected.linked is not None else []), expected.name
        wanted = {**where(expected.to, servers), **expected.attributes}
        assert span.attributes.keys() == wanted.keys()
        for key, value in wanted.items():
            assert value is ... or span.attributes[key] == value, key
    for counted in ("retries", "redirections"):
        key = f"redis.client.operation.{'retry_attempts' if counted == 'retries' else counted}"
        told = [span.attributes[key] for span in found if key in span.attributes]
        assert sum(told) == exported.total(f"redis.client.{counted}")
    for name, labels, value in row.metrics:
        total = exported.total(name, **labels)
        assert total >= 1 if value is ... else total == value, (name, labels, total, exported.sink.series(name))
    for name in (DURATION, WAITED):
        for _, found_labels in exported.sink.series(name):
            assert OF_EACH <= dict(found_labels).keys() <= OF_EACH | OF_SOME, name
    assert do.SECRET not in str(exported.sink.spans) + str(exported.sink.metrics).replace("redis_calls", "")


@pytest.mark.parametrize(
    ("act", "name", "metric"),
    [
        (do.command, "SET", DURATION),
        (do.blocking, "BLPOP", WAITED),
        (do.timeout, "GET", DURATION),
        (do.handled, "process", "messaging.process.duration"),
        (do.handler_that_fails, "process", "messaging.process.duration"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_measurement_is_as_long_as_its_span(
    act: Callable[[Servers], None], name: str, metric: str, exported: Exported, servers: Servers
) -> None:
    """In seconds."""
    with servers.client() as client:
        client.flushdb()
    act(servers)
    span = exported.span(name)
    key = "messaging__operation__name" if name == "process" else "db__operation__name"
    measured_s = exported.sink.seconds(metric, **{key: name})
    assert 0 < measured_s <= span.duration_s + 0.01


def test_who_waits_for_a_connection_is_pending(exported: Exported, servers: Servers) -> None:
    """While it waits."""
    pool = redis.BlockingConnectionPool.from_url(servers.url, max_connections=1, timeout=30)
    with redis.Redis(connection_pool=pool) as client:
        key = "nobody-elses"  # other tests leave values of other types under theirs
        threads = [threading.Thread(target=client.blpop, args=(key, 30)) for _ in range(2)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while exported.total("db.client.connection.pending_requests") != 1:
            assert time.monotonic() < deadline
        with servers.client() as other:
            other.rpush(key, "a", "b")
        for thread in threads:
            thread.join(20)
        assert exported.total("db.client.connection.pending_requests") == 0
        pool.disconnect()


def test_the_example_of_the_page(exported: Exported, redis_url: str) -> None:
    """Run as it stands, with the tests' Redis: the entry is processed in the trace that sent it."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    page = Path(__file__).parents[2] / "docs" / "instrumentation" / "redis.md"
    (source,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(source.replace("redis.Redis()", f"redis.Redis.from_url({redis_url!r})"), names)
    names["client"].close()
    assert exported.span("process orders").parent_id == exported.span("checkout").span_id
    assert exported.span("SET").parent_id == exported.span("process orders").span_id


def where(to: str, servers: Servers) -> dict[str, Any]:
    """The attributes of a server."""
    if to == "nowhere":
        return {}
    base = {"db.system.name": "redis", "db.namespace": "0"}
    if to == "sentinel":
        return {**base, "server.address": "mymaster"}
    if to == "socket":
        return {**base, "db.namespace": "3", "server.address": str(servers.watched.socket)}
    if to == "newer":
        return {**base, "server.address": "localhost", "server.port": servers.newer_port}
    address = redis_host(servers) if to == "single" else "127.0.0.1"
    return {**base, "server.address": address, "server.port": servers.port if to == "single" else servers.cluster.port}


def redis_host(servers: Servers) -> str:
    """The host of REDIS_URL, or of the server that was started."""
    with servers.client() as client:
        return str(client.connection_pool.connection_kwargs["host"])
