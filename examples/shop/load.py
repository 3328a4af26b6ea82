"""Places orders over HTTP: `python -m examples.shop.load http://127.0.0.1:8000 --orders 100 --rate 5`.

The n-th order is always the same one, so that the queries and tasks that a load makes can be counted in advance.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from examples.shop.models import CATALOGUE

_SKUS = tuple(CATALOGUE)
_CUSTOMERS = ("ada", "grace", "linus", "guido")
_TRACEPARENT = re.compile(r'traceparent;desc="00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}"')


@dataclass(frozen=True)
class Answer:
    """What the shop answered to one order; `order_id` and `trace_id` are None where it gave none."""

    status: int
    order_id: int | None
    trace_id: str | None


@dataclass
class Load:
    """What a load did."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def by_status(self) -> Counter[int]:
        """How many answers had which HTTP status."""
        return Counter(answer.status for answer in self.answers)

    @property
    def order_ids(self) -> list[int]:
        return [answer.order_id for answer in self.answers if answer.order_id is not None]

    @property
    def trace_ids(self) -> list[str]:
        return [answer.trace_id for answer in self.answers if answer.trace_id is not None]


def order(number: int) -> dict[str, str | int]:
    """The order that is placed as the `number`-th, counted from 0."""
    return {
        "customer": _CUSTOMERS[number % len(_CUSTOMERS)],
        "sku": _SKUS[number % len(_SKUS)],
        "quantity": 1 + number % 3,
        "plan": "pro" if number % 4 == 0 else "free",
    }


def orders(
    url: str, count: int | None = None, *, rate_per_s: float | None = None, stop: threading.Event | None = None
) -> Iterator[Answer]:
    """Places orders one after another and yields each answer: `count` of them, or until `stop` is set.

    At most `rate_per_s` orders a second; without it as fast as the shop answers.

    Raises:
        httpx.TransportError: the shop does not answer.
    """
    stop = stop or threading.Event()
    pause_s = 1 / rate_per_s if rate_per_s else 0.0
    next_at = time.monotonic()
    # A proxy of the environment is not for this.
    with httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client:
        for number in itertools.count() if count is None else range(count):
            if stop.wait(max(0.0, next_at - time.monotonic())):
                return
            next_at = max(next_at + pause_s, time.monotonic())
            yield _answer(client.post("/orders", json=order(number)))


def place_orders(url: str, count: int, *, rate_per_s: float | None = None) -> Load:
    """Places `count` orders and returns what came of them; raises as `orders` does."""
    return Load(list(orders(url, count, rate_per_s=rate_per_s)))


def _answer(response: httpx.Response) -> Answer:
    traced = _TRACEPARENT.search(response.headers.get("server-timing", ""))
    order_id = response.json()["id"] if response.status_code == 201 else None
    return Answer(response.status_code, order_id, traced[1] if traced else None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.shop.load", description="Places orders over HTTP.")
    parser.add_argument("url", help="where the shop listens, http://127.0.0.1:8000")
    parser.add_argument("--orders", type=int, default=100, help="how many (100)")
    parser.add_argument("--rate", type=float, help="at most so many a second (as fast as the shop answers)")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        load = place_orders(arguments.url, arguments.orders, rate_per_s=arguments.rate)
    except httpx.TransportError as error:
        print(f"{arguments.url} does not answer: {error}", file=sys.stderr)
        return 1
    elapsed_s = time.monotonic() - started
    statuses = ", ".join(f"{count} with status {status}" for status, count in sorted(load.by_status.items()))
    print(f"{len(load.answers)} orders in {elapsed_s:.1f} s: {statuses}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
