"""1000 engines are created, used and disposed of: nothing grows (contrib#1761: each stays for ever)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.slow import slow

CLIENT, UNSET = 3, 0
SOURCE = """
import asyncio, gc, json, resource, sqlalchemy, otelkit
from sqlalchemy.ext.asyncio import create_async_engine

otelkit.bootstrap("shop", otlp_endpoint={url!r})

def synchronous():
    engine = sqlalchemy.create_engine("sqlite:///shop.db")
    with otelkit.span("caller"), engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT 1"))
    engine.dispose()

async def asynchronous():
    engine = create_async_engine("sqlite+aiosqlite:///shop.db")
    with otelkit.span("caller"):
        async with engine.connect() as connection:
            await connection.execute(sqlalchemy.text("SELECT 1"))
    await engine.dispose()

def measured():
    assert otelkit.flush(20).ok
    for _ in range(3):
        gc.collect()
    kinds = [type(found).__name__ for found in gc.get_objects()]
    engines = sum(kind in ("Engine", "_EngineState", "_PoolState", "_Kind") for kind in kinds)
    resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    return [len(kinds), engines, resident / 1e6]

def use(engines):
    if {asynchronously}:
        async def main():
            for _ in range(engines):
                await asynchronous()
        asyncio.run(main())
    else:
        for number in range(engines):
            synchronous()
            if number % 500 == 0:
                otelkit.flush(20)

use(100)
before = measured()
use(1000)
print(json.dumps([before, measured()]))
"""


@pytest.mark.parametrize("asynchronously", [False, *slow(True)], ids=["sync", "async"])
def test_nothing_grows(tmp_path: Path, sink: Sink, asynchronously: bool) -> None:
    """Objects, and what is kept of an engine, are as many after 1000 more; memory is where it was."""
    finished = run_python(SOURCE.format(url=sink.url, asynchronously=asynchronously), cwd=tmp_path, deadline_s=90)
    (objects, kept, resident_mb), (objects_after, kept_after, resident_mb_after) = json.loads(finished.out)
    assert kept_after <= kept
    assert objects_after - objects < 500  # half an object an engine
    assert resident_mb_after - resident_mb < 8
    callers = {span.span_id for span in sink.named("caller")}
    statements = sink.named("SELECT")
    assert len(sink.spans) == 2 * len(callers) == 2 * len(statements) == 2200
    assert {span.parent_id for span in statements} == callers
    assert {(span.span.kind, span.span.status.code) for span in statements} == {(CLIENT, UNSET)}
    assert sink.total("db.client.operation.duration", db__operation__name="SELECT") == 1100
    assert len(sink.series("db.client.operation.duration")) == 1  # of all of them
