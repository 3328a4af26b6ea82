"""What the shop keeps: products and orders, in one SQLite file."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from examples.shop import settings

CATALOGUE: Final = {"TEA-GREEN": 650, "TEA-BLACK": 490, "CUP-WHITE": 1250}
"""Price in cents by SKU."""

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


def create_tables() -> None:
    """Creates the tables and the catalogue where they are missing."""
    Base.metadata.create_all(engine)
    with Session.begin() as session:
        for sku, price_cents in CATALOGUE.items():
            session.merge(Product(sku=sku, price_cents=price_cents))
