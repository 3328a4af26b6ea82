"""What otelkit instruments by itself: one row a library."""

from __future__ import annotations

import re
from typing import NamedTuple


class Library(NamedTuple):
    """A library with an instrumentation of otelkit's own.

    `module` is what its first import triggers; `supported` are the versions that the tests ran against: from the
    first, below the second; `install` is the module under otelkit.instrumentation whose `install(settings)` returns
    the undo. `contrib` are the entry points that record the same, `native` is the first version that can do it
    itself, empty where none can.
    """

    name: str
    module: str
    distribution: str
    supported: tuple[str, str]
    install: str
    contrib: tuple[str, ...] = ()
    native: str = ""

    def supports(self, version: str) -> bool:
        """Whether a version is one of the supported; pre-releases count as their release."""
        lowest, beyond = self.supported
        return _release(lowest) <= _release(version) < _release(beyond)

    def records_itself(self, version: str) -> bool:
        """Whether a version has telemetry of its own."""
        return bool(self.native) and _release(self.native) <= _release(version)

    @property
    def range(self) -> str:
        """The supported versions as a requirement."""
        return f">={self.supported[0]},<{self.supported[1]}"


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: all that a range of releases needs, and packaging takes 10 ms to import."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()


LIBRARIES = (
    Library("fastapi", "fastapi", "fastapi", ("0.115", "1"), "fastapi", ("fastapi",), native="0.142"),
    Library("starlette", "starlette.applications", "starlette", ("0.37.2", "2"), "starlette", ("starlette",)),
    Library("sqlalchemy", "sqlalchemy", "sqlalchemy", ("2.0", "2.2"), "sqlalchemy", ("sqlalchemy",)),
    Library("redis", "redis", "redis", ("5", "9"), "redis", ("redis",)),
    Library("celery", "celery", "celery", ("5.4", "6"), "celery", ("celery",)),
)

DRIVERS = (
    "aiopg",
    "asyncpg",
    "dbapi",
    "mysql",
    "mysqlclient",
    "psycopg",
    "psycopg2",
    "pymssql",
    "pymysql",
    "sqlite3",
)
"""Contrib instrumentations of database drivers: under SQLAlchemy each statement would be two spans."""

NEVER_BY_THEMSELVES = {
    "asgi": "the FastAPI and Starlette layer records the request",
    "asyncio": "a span for every task and coroutine",
    "aws-lambda": "for the Lambda runtime only",
    "click": "one span around a whole worker's life",
    "logging": "otelkit exports the logging module itself",
    "system_metrics": "otelkit records the process and the runtime itself",
    "threading": "context crosses into thread pools already where frameworks carry it",
    "wsgi": "a middleware, nothing to switch on",
}
"""Contrib instrumentations that stay off unless OTELKIT_INSTRUMENT_<NAME>=contrib asks for them, and why."""

CONTRIB_MODULES = {
    "aiohttp-client": "aiohttp",
    "aiohttp-server": "aiohttp",
    "aio-pika": "aio_pika",
    "confluent_kafka": "confluent_kafka",
    "grpc_aio_client": "grpc",
    "grpc_aio_server": "grpc",
    "grpc_client": "grpc",
    "grpc_server": "grpc",
    "kafka": "kafka",
    "mysql": "mysql.connector",
    "mysqlclient": "MySQLdb",
    "tortoiseorm": "tortoise",
    "urllib": "urllib.request",
    "google-genai": "google.genai",
}
"""Entry points of contrib whose library has another name than they have."""
