"""What the shop keeps: products, orders, customers and what they wrote, in one SQLite file."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from examples.shop import settings

CATALOGUE: Final = {"TEA-GREEN": 650, "TEA-BLACK": 490, "CUP-WHITE": 1250}
"""Price in cents by SKU."""

CUSTOMERS: Final = (
    "ada",
    "alan",
    "barbara",
    "dennis",
    "edsger",
    "frances",
    "grace",
    "guido",
    "ken",
    "linus",
    "margaret",
    "radia",
)
"""Who has written a review of every product."""

engine = create_engine(f"sqlite:///{settings.DATABASE}")
Session = sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The tables' base."""


class Product(Base):
    """Something to buy."""

    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(primary_key=True)
    price_cents: Mapped[int]


class Order(Base):
    """What a customer has bought; `status` is `placed`, then `fulfilled`."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(ForeignKey("products.sku"))
    quantity: Mapped[int]
    total_cents: Mapped[int]
    status: Mapped[str] = mapped_column(default="placed")


class Review(Base):
    """What a customer thinks of a product."""

    __tablename__ = "reviews"

    customer: Mapped[str] = mapped_column(ForeignKey("customers.name"), primary_key=True)
    sku: Mapped[str] = mapped_column(ForeignKey("products.sku"), primary_key=True)
    stars: Mapped[int]


class Customer(Base):
    """Somebody who writes reviews, which are loaded when they are first asked for."""

    __tablename__ = "customers"

    name: Mapped[str] = mapped_column(primary_key=True)
    reviews: Mapped[list[Review]] = relationship()


def create_tables() -> None:
    """Creates the tables, the catalogue, the customers and their reviews where they are missing."""
    Base.metadata.create_all(engine)
    with Session.begin() as session:
        for sku, price_cents in CATALOGUE.items():
            session.merge(Product(sku=sku, price_cents=price_cents))
        if session.get(Customer, CUSTOMERS[0]) is None:
            session.add_all(
                Customer(name=name, reviews=[Review(sku=sku, stars=3 + len(name + sku) % 3) for sku in CATALOGUE])
                for name in CUSTOMERS
            )
