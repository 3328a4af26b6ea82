"""The oldest and the earlier versions of SQLAlchemy that are supported, each in a process of its own.

They are installed into a folder of the test's; the suite itself runs with the newest, nox's lowest session with 2.0.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from otelkit.instrumentation.library import LIBRARIES
from tests.support.databases import ON_POSTGRESQL
from tests.support.process import run_python
from tests.support.sink import Sink

SOURCE = """
import asyncio, json, sqlalchemy
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, declarative_base
import otelkit

otelkit.bootstrap("shop", otlp_endpoint={url!r}, sqlalchemy_transactions={transactions!r}, sqlcommenter="on")

class Order(declarative_base()):
    __tablename__ = "orders"
    id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
    plan = sqlalchemy.Column(sqlalchemy.String)

engine = sqlalchemy.create_engine({sync!r}, future=True)
Order.metadata.create_all(engine)
with otelkit.span("orm"), Session(engine, future=True) as session:
    session.add(Order(id=1, plan="canary"))
    session.commit()
    session.execute(sqlalchemy.select(Order).where(Order.plan == "canary")).all()
with otelkit.span("core"), engine.begin() as connection:
    connection.execute(sqlalchemy.insert(Order), [dict(id=number, plan="canary") for number in range(10, 17)])
    for number in range(12):
        connection.execute(text("SELECT plan FROM orders WHERE id = :id"), dict(id=number))
with otelkit.span("failing"), engine.connect() as connection:
    try:
        connection.execute(text("SELECT 'canary' FROM nowhere"))
    except sqlalchemy.exc.DBAPIError:
        pass

async def main():
    engine = create_async_engine({asynchronous!r})
    with otelkit.span("async"):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    await engine.dispose()

asyncio.run(main())
engine.dispose()
library = otelkit.status()["libraries"]["sqlalchemy"]
assert otelkit.flush(20).ok
print(json.dumps([sqlalchemy.__version__, library["version"], library["choice"], library["active"]]))
"""


@pytest.fixture(scope="module", params=["1.4", "2.0"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A version, and the folder that it was installed into."""
    folder = tmp_path_factory.mktemp("sqlalchemy")
    requirements = [f"sqlalchemy=={request.param}.*", "greenlet", "psycopg2-binary"]
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    done = subprocess.run(
        [*command, "--target", str(folder), *requirements], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return request.param, folder


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=ON_POSTGRESQL)])
def urls(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """A database as a sync and an async driver reach it, and its pool's name."""
    if request.param == "sqlite":
        return "sqlite:///shop.db", "sqlite+aiosqlite:///shop.db", "shop.db"
    address, name = request.getfixturevalue("postgresql"), f"shop{uuid4().hex[:8]}"
    with psycopg.connect(f"postgresql://postgres@{address}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    found = f"postgres@{address}/{name}"
    return f"postgresql+psycopg2://{found}", f"postgresql+asyncpg://{found}", f"{address}/{name}"


@pytest.mark.parametrize("transactions", ["off", "spans"])
@pytest.mark.slow
def test_an_earlier_version(
    sink: Sink, tmp_path: Path, installed: tuple[str, Path], urls: tuple[str, str, str], transactions: str
) -> None:
    """Core, ORM, batches, errors, async, pools, N+1, transactions and comments are recorded as with the newest."""
    version, folder = installed
    sync, asynchronous, name = urls
    path = os.pathsep.join([str(folder), *(found for found in sys.path if found)])
    source = SOURCE.format(url=sink.url, transactions=transactions, sync=sync, asynchronous=asynchronous)
    finished = run_python(source, cwd=tmp_path, environ={"PYTHONPATH": path}, deadline_s=60)
    (running, library) = json.loads(finished.out)[0], json.loads(finished.out)[1:]
    assert running.startswith(f"{version}.")
    assert library == [running, "otelkit", True]

    names = {span.span_id: span.name for span in sink.spans}
    found = [(names[span.parent_id], span.name) for span in sink.spans if span.scope == "otelkit.sqlalchemy"]
    steps = ("BEGIN", "COMMIT", "ROLLBACK")
    assert [pair for pair in found if pair[1] not in steps] == [
        ("orm", "INSERT orders"),
        ("orm", "SELECT orders"),
        ("core", "INSERT orders"),
        *[("core", "SELECT orders")] * 12,
        ("failing", "SELECT nowhere"),
        ("async", "SELECT"),
    ]
    # The ORM begins anew for the SELECT after its commit.
    by_steps = [pair for pair in found if pair[1] in steps]
    assert by_steps == ([] if transactions == "off" else [
        ("orm", "BEGIN"), ("orm", "COMMIT"), ("orm", "BEGIN"), ("orm", "ROLLBACK"),
        ("core", "BEGIN"), ("core", "COMMIT"),
        ("failing", "BEGIN"), ("failing", "ROLLBACK"),
        ("async", "BEGIN"), ("async", "ROLLBACK"),
    ])  # fmt: skip
    (batch,) = [span for span in sink.spans if "db.operation.batch.size" in span.attributes]
    assert (batch.name, batch.attributes["db.operation.batch.size"]) == ("INSERT orders", 7)
    (failed,) = sink.named("SELECT nowhere")
    error = "psycopg2.errors.UndefinedTable" if "psycopg2" in sync else "sqlite3.OperationalError"
    assert (failed.attributes["error.type"], failed.span.status.code) == (error, 2)
    assert failed.attributes.get("db.response.status_code") == ("42P01" if "psycopg2" in sync else None)
    assert {span.attributes["db.system.name"] for span in sink.spans if span.scope == "otelkit.sqlalchemy"} == {
        sync.partition(":")[0].partition("+")[0]
    }
    (core,) = sink.named("core")
    assert core.attributes["otelkit.db.n_plus_one.count"] == 12
    assert sink.total("otelkit.db.n_plus_one", db__query__summary="SELECT orders") == 1
    assert sink.total("db.client.operation.duration", db__query__summary="SELECT orders") == 13
    assert sink.total("db.client.connection.use_time", db__client__connection__pool__name=name) >= 4
    assert "canary" not in str(sink.spans)


def test_the_versions_that_are_tested_are_those_that_are_supported() -> None:
    """From 1.4 to 2.1, the one that is installed."""
    (library,) = [library for library in LIBRARIES if library.name == "sqlalchemy"]
    assert library.supported == ("1.4", "2.2")
