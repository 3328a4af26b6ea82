"""Requests that are worth a look in a trace: a slow one, an N+1, a failing one, a stream, tasks with retries."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from celery import chain
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select

import otelkit
from examples.shop.models import Customer, Order, Session
from examples.shop.tasks import announce_parcel, book_courier, pack_parcel

RENDERING_S = 0.8
EXPORT_PAGES = 5
EXPORT_PAGE_ORDERS = 20
EXPORT_PAGE_S = 0.15

router = APIRouter()


class BankUnreachable(ConnectionError):
    """The bank does not answer."""


@router.get("/report")
def report() -> dict[str, int]:
    """Slow: the statement is quick, and what is made of its rows takes most of a second."""
    with Session() as session:
        sold = session.execute(select(Order.sku, func.sum(Order.quantity).label("quantity")).group_by(Order.sku)).all()
    with otelkit.span("report.render", {"report.rows": len(sold)}):
        time.sleep(RENDERING_S)
    return {row.sku: row.quantity for row in sold}


@router.get("/customers")
def customers() -> dict[str, int]:
    """N+1: one statement for the customers, and one more for the reviews of each."""
    with Session() as session:
        return {customer.name: len(customer.reviews) for customer in session.scalars(select(Customer))}


@router.post("/refunds")
def refund() -> None:
    """Fails: what the bank's client raises nobody handles."""
    with otelkit.span("bank.refund"):
        raise BankUnreachable("the bank does not answer")


@router.get("/export")
def export() -> StreamingResponse:
    """A stream: the answer begins at once, and the orders follow page by page."""
    return StreamingResponse(_pages(), media_type="text/csv")


def _pages() -> Iterator[str]:
    yield "id,sku,quantity,total_cents,status\n"
    for page in range(EXPORT_PAGES):
        with otelkit.span("export.page", {"export.page": page + 1}), Session() as session:
            newest = select(Order).order_by(Order.id.desc()).limit(EXPORT_PAGE_ORDERS).offset(page * EXPORT_PAGE_ORDERS)
            found = session.scalars(newest).all()
            time.sleep(EXPORT_PAGE_S)
        yield "".join(f"{row.id},{row.sku},{row.quantity},{row.total_cents},{row.status}\n" for row in found)


@router.post("/parcels", status_code=202)
def send_parcel() -> dict[str, str]:
    """A chain of three tasks, of which the second is run again until it succeeds."""
    parcel = uuid.uuid4().hex[:8]
    chain(pack_parcel.si(parcel), book_courier.si(parcel), announce_parcel.si(parcel)).delay()
    return {"parcel": parcel}
