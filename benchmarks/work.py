"""The worker process: `python -m benchmarks.work PEER` in the peer's environment.

A Celery worker that runs its tasks in its own process, so that all that a task costs is this process's CPU. It says
`{}` when it is set up. `{"done": N}` is answered when N tasks have ended since its start; any other line has it send
everything recorded so far, and is answered when that has arrived (with `collect`, and when the garbage is collected).
It ends with its standard input.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.app import DATABASE, REDIS_URL
from benchmarks.conversation import answer_in_thread, begin, say
from benchmarks.peers import WORKER, peer

TASK = "benchmarks.read_order"
_POLL_INTERVAL_S = 0.02
_DONE_TIMEOUT_S = 60.0

logger = logging.getLogger("shop")


def work(name: str) -> None:
    """Runs the worker under a peer until standard input ends. Its queue is called like the peer."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Celery's two lines a task would be sent too: the comparison is of the application's one.
    logging.getLogger("celery").setLevel(logging.WARNING)
    chosen = peer(name)
    flush = chosen.start(WORKER)

    from celery import Celery

    app = Celery(broker=os.environ[REDIS_URL])
    # Celery would take off the root logger's handlers, those of peers among them.
    app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False, task_default_queue=name)
    app.task(name=TASK)(_read_order())
    chosen.app_made(app)
    worker = app.Worker(pool="solo", loglevel="INFO", without_mingle=True, without_gossip=True, without_heartbeat=True)

    def answer(words: Mapping[str, Any]) -> Mapping[str, object]:
        if "done" in words:
            return {"done": _wait_until_done(words["done"])}
        flush()
        if words.get("collect"):
            gc.collect()
        return {}

    answer_in_thread(answer, lambda: os._exit(0))
    say()
    worker.start()


def _read_order() -> Callable[[int], str]:
    """The task: one statement, one log line."""
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{os.environ[DATABASE]}")
    orders = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("sku", sa.String))

    def read_order(number: int) -> str:
        with engine.connect() as connection:
            row = connection.execute(sa.select(orders).where(orders.c.id == number)).one()
        logger.info("order %d read", number)
        return str(row.sku)

    return read_order


def _wait_until_done(tasks: int) -> int:
    """Waits until so many tasks have ended, telemetry's part after them included; how many have."""
    from celery.worker import state

    deadline = time.monotonic() + _DONE_TIMEOUT_S
    done = 0
    while time.monotonic() < deadline:
        done = sum(state.total_count.values())
        if done >= tasks and not state.reserved_requests:
            break
        time.sleep(_POLL_INTERVAL_S)
    return done


if __name__ == "__main__":
    begin()
    work(sys.argv[1])
