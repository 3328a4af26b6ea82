"""The web application, with business telemetry but no call that starts it: `otelkit run uvicorn examples.shop.app:app`.

examples/shop/main.py is the same application with that call.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from redis import Redis

import otelkit
from examples.shop import page, settings, showcase
from examples.shop.models import Order, Product, Session, create_tables
from examples.shop.tasks import fulfil_order

Plan = Literal["free", "pro"]

PRICE_EXPIRES_AFTER_S = 3600

logger = logging.getLogger("shop.web")
cache = Redis.from_url(settings.REDIS_URL, decode_responses=True)


@otelkit.metrics.counter("orders.placed", unit="{order}")
def orders_placed(*, plan: Plan) -> None:
    """Orders that the shop accepted."""


class NewOrder(BaseModel):
    """What a customer sends."""

    customer: str
    sku: str
    quantity: int = Field(default=1, ge=1, le=100)
    plan: Plan = "free"


class PlacedOrder(BaseModel):
    """What a customer gets back."""

    id: int
    sku: str
    quantity: int
    total_cents: int
    status: str


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    create_tables()
    yield


app = FastAPI(title="Shop", lifespan=lifespan)
app.include_router(showcase.router)
app.include_router(page.router)
app.mount("/page", page.files)


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/orders", status_code=201)
def place_order(wanted: NewOrder) -> PlacedOrder:
    otelkit.bind(user_id=wanted.customer)
    price = price_cents(wanted.sku)
    if price is None:
        raise HTTPException(404, f"there is no product {wanted.sku!r}")
    total_cents = wanted.quantity * price
    with Session.begin() as session:
        order = Order(sku=wanted.sku, quantity=wanted.quantity, total_cents=total_cents)
        session.add(order)
    orders_placed.add(1, plan=wanted.plan)
    otelkit.distribution("order.value", total_cents / 100, _unit="{EUR}")
    otelkit.event("order_placed", order_id=order.id, sku=order.sku, total_cents=total_cents)
    fulfil_order.delay(order.id)
    logger.info("order %s is placed", order.id)
    return PlacedOrder.model_validate(order, from_attributes=True)


@app.get("/orders/{order_id}")
def read_order(order_id: int) -> PlacedOrder:
    with Session() as session:
        order = session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, f"there is no order {order_id}")
    return PlacedOrder.model_validate(order, from_attributes=True)


def price_cents(sku: str) -> int | None:
    """The price of one piece: from the cache, else from the database into the cache; None for an unknown SKU."""
    with otelkit.span("price.quote", sku=sku) as span:
        cached = cache.get(f"price:{sku}")
        span.set_attribute("price.cached", cached is not None)
        if cached is not None:
            return int(cached)
        with Session() as session:
            product = session.get(Product, sku)
        if product is None:
            return None
        cache.set(f"price:{sku}", product.price_cents, ex=PRICE_EXPIRES_AFTER_S)
        return product.price_cents
