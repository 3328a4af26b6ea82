"""`make demo`: the shop with its page, under a gentle load, and `otelkit ui`, which shows what it does in a browser.

With the stack's programs (in OTELKIT_STACK_BIN, else on PATH) the collector, Tempo, Prometheus and Loki run beside it,
and are asked for one order: the shop then sends to the collector, which sends to them and to the viewer.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

import httpx
from rich.console import Console
from rich.text import Text

from examples.shop import answers
from examples.shop.load import Answer, orders
from examples.shop.processes import ROOT, Process, Shop, ShopError, free_port, path_with_tools, running_shop
from examples.shop.redis_server import RedisUnavailable, redis_server
from otelkit.stack.native import NativeStack, Ports, missing_binaries
from otelkit.stack.queries import NotArrived
from otelkit.stack.server import StackError

T = TypeVar("T")

WEB_PORT: Final = 8000
FIRST_ORDERS: Final = 3
"""So many orders are placed before the newest of them is asked about."""
ORDER_TIMEOUT_S: Final = 30.0
REPORT_INTERVAL_S: Final = 15.0
TO_THE_VIEWER: Final = Path(__file__).with_name("collector.yaml")
"""What the collector's configuration gets so that it sends to the viewer too."""

# The defaults (5 s for spans, 60 s for metrics) spare a production collector; here somebody waits for the answers.
PROMPT: Final = {
    "OTEL_BSP_SCHEDULE_DELAY": "500",
    "OTEL_BLRP_SCHEDULE_DELAY": "500",
    "OTEL_METRIC_EXPORT_INTERVAL": "2000",
}

# The last span of an order's trace in each of the two processes, which send apart from each other.
_LAST_TO_END: Final = {"POST /orders", "process shop.fulfil_order"}
console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)


class DemoError(RuntimeError):
    """The shop did not do what was asked of it."""


class Load:
    """Places orders in a thread: `count` of them, or until the block ends."""

    def __init__(self, url: str, *, count: int | None, rate_per_s: float) -> None:
        self.answers: list[Answer] = []
        self._changed = threading.Condition()
        self._ended = False
        self._stop = threading.Event()
        self._orders = orders(url, count, rate_per_s=rate_per_s, stop=self._stop)
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, count: int, *, timeout_s: float) -> bool:
        """Whether so many orders were accepted in time.

        Raises:
            DemoError: one was refused, or the shop does not answer.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self.answers) >= count or self._ended, timeout_s)
            for answer in self.answers:
                if answer.status != 201:
                    raise DemoError(f"the shop answered an order with status {answer.status}")
            if self._ended and len(self.answers) < count:
                raise DemoError(f"the shop does not answer any more after {len(self.answers)} orders")
            return len(self.answers) >= count

    def _run(self) -> None:
        try:
            with suppress(httpx.TransportError):
                for answer in self._orders:
                    with self._changed:
                        self.answers.append(answer)
                        self._changed.notify_all()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


def run(*, count: int | None, rate_per_s: float, data_dir: Path) -> None:
    """Runs the demo to the end of `count` orders, else until it is interrupted; what was started ends in any case.

    Raises:
        DemoError, NotArrived, RedisUnavailable, ShopError, StackError: what did not start, or did not do its work.
    """
    with _run_folder(data_dir) as folder, ExitStack() as running:
        redis_url = running.enter_context(_announced("Redis", redis_server()))
        viewer = _start_viewer(folder, running)
        stack = _start_stack(folder, viewer, running)
        starting = running_shop(
            folder,
            redis_url=redis_url,
            environ=_environment(folder, viewer, stack.otlp_http if stack is not None else viewer),
            port=WEB_PORT,
        )
        shop = running.enter_context(_announced("the shop", starting))
        _say("The shop", heading=True)
        _say(f"  {shop.url}  (its page: a button for each request that is worth a look)")
        _say(f"  web         uvicorn, process {shop.web.pid}")
        _say(f"  worker      Celery, prefork, 2 children, process {shop.worker.pid}")
        _say(f"  Redis       {redis_url}")
        _say(f"  logs        {os.path.relpath(folder)}")
        until = "until Ctrl-C" if count is None else f"{count} in all"
        _say(f"\nPlacing an order every {1 / rate_per_s:g} s, {until}.", heading=True)
        load = running.enter_context(_announced("the load", Load(shop.url, count=count, rate_per_s=rate_per_s)))
        first = count or FIRST_ORDERS
        if not load.wait_for(first, timeout_s=first / rate_per_s + ORDER_TIMEOUT_S):
            raise DemoError(f"the shop did not answer {first} orders in time")
        order = load.answers[first - 1]
        fulfilled = f"order {order.order_id} is fulfilled"
        shop.worker.wait_until(lambda: fulfilled in shop.worker.log(), timeout_s=ORDER_TIMEOUT_S)
        _show_link(viewer, order)
        if stack is not None:
            _show(stack, order, placed=first)
        if count is None:
            _keep_going(shop, stack, load)


def _show(stack: NativeStack, order: Answer, *, placed: int) -> None:
    """Shows what the stores have of an order: the commands and their answers."""
    if order.order_id is None or order.trace_id is None:
        raise DemoError("the shop's answer names no order or no trace (header Server-Timing)")
    stores = answers.Stores(tempo=stack.tempo, prometheus=stack.prometheus, loki=stack.loki)
    _say(f"\nThe stores have it too, as trace {order.trace_id}: in Tempo", heading=True)
    _say_asked([answers.trace(stores, order.trace_id)])
    _say("\nIts log lines, in Loki", heading=True)
    _say_asked([answers.logs(stores, order.trace_id, order.order_id)])
    _say("\nThe metrics that count it, in Prometheus", heading=True)
    _say_asked(answers.metrics(stores, placed))


def _show_link(viewer: str, order: Answer) -> None:
    """Shows where an order's trace is, as soon as the page has all of it."""
    if order.trace_id is None:
        raise DemoError("the shop's answer names no trace (header Server-Timing)")
    deadline = time.monotonic() + ORDER_TIMEOUT_S
    while True:
        found = httpx.get(f"{viewer}/api/v1/traces/{order.trace_id}", trust_env=False)
        spans = found.json()["spans"] if found.status_code == 200 else []
        if {span["name"] for span in spans} >= _LAST_TO_END:
            break
        if time.monotonic() > deadline:
            raise DemoError(f"the viewer has {len(spans)} spans of trace {order.trace_id}, and not all of them in time")
        time.sleep(0.1)
    _say(f"\nOrder {order.order_id} was just placed. Its trace has {len(spans)} spans in two processes:", heading=True)
    _say(f"  {viewer}/traces/{order.trace_id}")


def _keep_going(shop: Shop, stack: NativeStack | None, load: Load) -> None:
    while True:
        load.wait_for(sys.maxsize, timeout_s=REPORT_INTERVAL_S)
        shop.check()
        if stack is not None:
            stack.check()
            _say(f"\n{len(load.answers)} orders placed, the newest in trace {load.answers[-1].trace_id}")


def _start_viewer(folder: Path, running: ExitStack) -> str:
    """`otelkit ui`, on its usual port if that is free; its address."""
    # Nobody but this machine reaches it, and a token would be in the way of all that follows its link.
    environ = {**os.environ, "PATH": path_with_tools(), "OTELKIT_UI_TOKEN": ""}
    starting = Process("viewer", ["otelkit", "ui"], environ=environ, log_path=folder / "viewer.log")
    viewer = running.enter_context(_announced("the viewer", starting))
    viewer.wait_until(lambda: _link(viewer) is not None)
    link = str(_link(viewer))
    _say("The viewer", heading=True)
    _say(f"  {link}  (open this in a browser)\n")
    return link


def _start_stack(folder: Path, viewer: str, running: ExitStack) -> NativeStack | None:
    """The collector and the stores, None where a program is missing; the stores on their usual ports if those are free.

    The collector's usual ports are the viewer's.
    """
    missing = missing_binaries()
    if missing:
        _say(f"No stores beside it: {', '.join(missing)} not found, neither in OTELKIT_STACK_BIN nor on PATH.\n")
        return None
    usual = dataclasses.replace(Ports(), otlp_http=free_port(), otlp_grpc=free_port())
    ports: Ports | None = usual
    try:
        usual.check_free()
    except StackError:
        ports = None
    environ = {**os.environ, "SHOP_VIEWER_URL": viewer}
    starting = NativeStack(folder / "stack", ports=ports, environ=environ, collector_configs=[TO_THE_VIEWER])
    stack = running.enter_context(_announced("the collector and the stores", starting))
    _say("The stores, which get the same", heading=True)
    _say(f"  collector   {stack.otlp_http}  (OTLP/HTTP)")
    _say(f"  Tempo       {stack.tempo}")
    _say(f"  Prometheus  {stack.prometheus}")
    _say(f"  Loki        {stack.loki}\n")
    return stack


def _link(viewer: Process) -> str | None:
    found = re.search(r"^open (\S+)$", viewer.log(), re.MULTILINE)
    return found[1] if found is not None else None


def _environment(folder: Path, viewer: str, endpoint: str) -> dict[str, str]:
    """The shop's settings: where its telemetry goes, how soon, and where it is seen."""
    return {
        **PROMPT,
        "SHOP_VIEWER_URL": viewer,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        # The health check, and the page with its files.
        "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": r"/health$,:\d+/$,/page/",
        "OTELKIT_STATE_DIR": str(folder / "state"),
    }


@contextmanager
def _run_folder(data_dir: Path) -> Iterator[Path]:
    """A new folder in `data_dir`; it stays where something failed and left a log."""
    data_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=data_dir)).absolute()
    try:
        yield folder
    except Exception:
        if any(folder.iterdir()):
            _say(f"\nThe logs of this run are in {os.path.relpath(folder)}")
        else:
            folder.rmdir()
        raise
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


@contextmanager
def _announced(what: str, starting: AbstractContextManager[T]) -> Iterator[T]:
    """Says when what has been started has ended."""
    started = False
    try:
        with starting as running:
            started = True
            yield running
    finally:
        if started:
            _say(f"  {what} ended")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Makes SIGINT, SIGTERM and SIGHUP one KeyboardInterrupt; further ones do not disturb the ending."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    earlier = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _say(text: str, *, heading: bool = False) -> None:
    console.print(Text(text, style="bold" if heading else ""))


def _say_asked(asked: Sequence[answers.Asked]) -> None:
    for each in asked:
        console.print(Text(f"$ {each.command}", style="cyan"))
        for line in each.lines:
            _say(f"  {line}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples.shop.demo",
        description="Runs the shop with telemetry under a gentle load and shows what arrives of one order.",
    )
    parser.add_argument("--orders", type=int, help="place so many, show the last one, and end (default: until Ctrl-C)")
    parser.add_argument("--rate", type=float, default=1.0, help="orders a second (1)")
    parser.add_argument("--data", type=Path, default=ROOT / ".demo", help="where database, stores and logs go (.demo)")
    arguments = parser.parse_args()
    if arguments.rate <= 0 or (arguments.orders is not None and arguments.orders < 1):
        parser.error("--orders and --rate must be above 0")
    with _interruptible():
        try:
            run(count=arguments.orders, rate_per_s=arguments.rate, data_dir=arguments.data)
        except KeyboardInterrupt:
            pass
        except (DemoError, NotArrived, RedisUnavailable, ShopError, StackError) as error:
            print(f"the demo failed: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
