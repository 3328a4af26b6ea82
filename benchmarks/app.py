"""The application that every peer runs: a route that does nothing, and one with a statement, a lookup and a log line.

The handlers block on purpose: one request runs at a time, and a thread pool's hand-over would add noise to each.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import redis
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException

DATABASE = "BENCHMARK_DATABASE"
REDIS_URL = "BENCHMARK_REDIS_URL"

logger = logging.getLogger("shop")


def create(**fastapi_options: Any) -> FastAPI:
    """The application over the SQLite file and the Redis that the environment names."""
    app = FastAPI(**fastapi_options)
    engine = sa.create_engine(f"sqlite:///{os.environ[DATABASE]}")
    cache = redis.Redis.from_url(os.environ[REDIS_URL])
    orders = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("sku", sa.String))

    @app.get("/ping")
    async def ping() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/orders/{number}")
    async def order(number: int) -> dict[str, str | int]:
        with engine.connect() as connection:
            row = connection.execute(sa.select(orders).where(orders.c.id == number)).first()
        if row is None:
            raise HTTPException(404)
        stock: Any = cache.get(f"stock:{row.sku}")
        logger.info("order %d read", number)
        return {"id": row.id, "sku": row.sku, "stock": int(stock)}

    return app
