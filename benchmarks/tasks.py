"""CPU per Celery task: the same worker under every peer, its tasks published by the harness through Redis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery

from benchmarks.processes import Sink
from benchmarks.requests import ORDERS, shop
from benchmarks.rounds import Comparison, Load, Workload, compare
from benchmarks.work import TASK

READ_ORDER = Workload("task", "Celery task", "task", turn=20)
_WARM_UP = 200


def measure(peers: Sequence[str], *, rounds: int, tasks: int) -> list[Comparison]:
    """Compares the one task. `none` should be among the peers."""
    with shop(peers) as place, Celery(broker=place.redis_url) as publisher:

        @contextmanager
        def start(name: str, receiver: Sink) -> Iterator[Load]:
            with place.run("benchmarks.work", name, receiver) as worker:
                published = 0

                def run(workload: Workload, first: int, count: int) -> None:
                    nonlocal published
                    for number in range(first, first + count):
                        publisher.send_task(TASK, (number % ORDERS + 1,), queue=name, ignore_result=True)
                    published += count
                    done = worker.ask(done=published)["done"]
                    if done < published:
                        raise RuntimeError(f"{done} of {published} tasks were done in time")

                yield Load(worker, run)

        return compare((READ_ORDER,), place.receivers, start, rounds=rounds, count=tasks, warm_up=_WARM_UP)
