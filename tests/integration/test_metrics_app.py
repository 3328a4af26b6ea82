"""/metrics within the application: `otelkit.metrics_app`, asked of real servers with one worker and with many."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.server import FAST, clean_environment, free_port, get, running, wait_until_up
from tests.support.sink import Sink
from tests.support.slow import slow

BOOTSTRAP = "otelkit.bootstrap('shop')\n"
MOUNT = "app.mount('/metrics', otelkit.metrics_app())\n"
ROUTE = "app.add_route('/metrics', otelkit.metrics_app())\n"
APP = """
import os
import otelkit
from fastapi import FastAPI
from prometheus_client import Counter, Gauge, Histogram, Info, Summary

app = FastAPI()
orders = Counter("shop_orders", "Orders.", ["plan"])
baskets = Histogram("shop_basket_euros", "Baskets.", buckets=(10, 100))
waiting = Summary("shop_waiting_seconds", "Waiting.")
Gauge("shop_open", "Whether it is open.").set(1)
Info("shop_build", "Build.").info({"number": "7"})

@app.get("/order")
def order():
    otelkit.count("orders.placed", plan="pro")
    orders.labels("pro").inc()
    baskets.observe(20)
    waiting.observe(0.5)
    return os.getpid()
"""
OF_AN_ORDER = {"http_request_method": "GET", "http_response_status_code": "200", "http_route": "/order"}
EARLY = APP.replace("app = ", BOOTSTRAP + "app = ") + MOUNT
LATE = APP + ROUTE + BOOTSTRAP


@contextmanager
def served(folder: Path, source: str, *options: str, **environ: str) -> Iterator[str]:
    """The application under uvicorn; its base URL."""
    (folder / "app.py").write_text(source)
    port, log = free_port(), folder / "log"
    command = ["uvicorn", "app:app", "--port", str(port), *options]
    settings = {"OTELKIT_STATE_DIR": str(folder / "state"), "OTELKIT_SHUTDOWN_TIMEOUT_S": "1", **FAST, **environ}
    with running(command, cwd=folder, environ=clean_environment(**settings), log=log) as process:
        base = f"http://127.0.0.1:{port}"
        wait_until_up(f"{base}/nowhere", process, log)
        yield base


def scrape(base: str, **headers: str) -> str:
    """The metrics as text."""
    status, found, body = get(f"{base}/metrics", headers)
    assert status == 200, body
    assert found["content-type"].startswith("text/plain")
    return body.decode()


def series(text: str, begin: str, having: str) -> list[str]:
    """The values of the series whose lines begin so and have a label."""
    name, _, label = begin.partition("{")
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{") and having in line and label in line]
    return [line.rpartition(" ")[2] for line in lines]


def wait_for(base: str, *lines: str, times: int = 1) -> str:
    """Scrapes until all of these lines are in the answers, so often in a row."""
    deadline, seen = time.monotonic() + 20, 0
    while seen < times:
        text = scrape(base)
        missing = [line for line in lines if line + "\n" not in text]
        seen = 0 if missing else seen + 1
        assert time.monotonic() < deadline, (missing, text)
        if missing:
            time.sleep(0.1)
    return text


@pytest.mark.parametrize(
    ("source", "exporter"),
    [
        (EARLY, "otlp"),
        *slow((LATE, "none"), (EARLY, "prometheus")),
    ],
    ids=["otlp", "none", "prometheus"],
)
def test_one_worker_hands_out_its_metrics_and_the_applications_registry(
    tmp_path: Path, sink: Sink, source: str, exporter: str
) -> None:
    """Whatever exporters there are, before or after bootstrap, as a mount or a route, each by its own names."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_METRICS_EXPORTER": exporter,
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(free_port()),
    }
    with served(tmp_path, source, **environ) as base:
        for _ in range(3):
            get(f"{base}/order")
        text = wait_for(
            base,
            'orders_placed_total{plan="pro"} 3.0',
            'shop_orders_total{plan="pro"} 3.0',
            'shop_basket_euros_bucket{le="100.0"} 3.0',
            "shop_waiting_seconds_sum 1.5",
            "shop_open 1.0",
            'shop_build_info{number="7"} 1.0',
        )
        # As OTLP has them, with the unit in the name.
        for end, value in (("count", "3.0"), ('bucket{le="+Inf"', "3.0"), ("sum", r"0\.\d+|\d\.\d+e-\d+")):
            (found,) = series(text, f"http_server_request_duration_seconds_{end}", 'http_route="/order"')
            assert re.fullmatch(value, found)
        (labels,) = re.findall(r"^http_server_request_duration_seconds_count\{(.*/order.*)\}", text, re.MULTILINE)
        told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        assert told.items() >= OF_AN_ORDER.items()
        assert "# TYPE http_server_request_duration_seconds histogram" in text
        assert text.count("target_info{") == 1
        port = environ["OTEL_EXPORTER_PROMETHEUS_PORT"]
        if exporter == "prometheus":
            assert 'shop_orders_total{plan="pro"} 3.0' in scrape(f"http://127.0.0.1:{port}")
    assert bool(sink.metrics) is (exporter == "otlp")


@pytest.mark.parametrize(
    ("exporter", "multiproc"),
    [
        pytest.param("otlp", False, id="otlp"),
        pytest.param("none", False, id="none", marks=pytest.mark.slow),
        pytest.param("none", True, id="prometheus-multiproc", marks=pytest.mark.slow),
    ],
)
def test_any_of_many_workers_answers_for_all(tmp_path: Path, sink: Sink, exporter: str, multiproc: bool) -> None:
    """Sums and histograms are those of all workers in every answer, also the registry's; gauges are one a worker. What
    is the registry's goes to whoever pulls alone.
    """
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_METRICS_EXPORTER": exporter}
    if multiproc:
        (tmp_path / "multiproc").mkdir()
        environ["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "multiproc")
    # prometheus_client has no Info there.
    source = EARLY.replace('Info("shop_build", "Build.").info({"number": "7"})', "") if multiproc else EARLY
    with served(tmp_path, source, "--workers", "2", **environ) as base:
        asked, pids = 0, set[bytes]()
        while asked < 10 or len(pids) < 2:
            pids.add(get(f"{base}/order")[2])
            asked += 1
            assert asked < 500
        text = wait_for(
            base,
            f'orders_placed_total{{plan="pro"}} {asked}.0',
            f'shop_orders_total{{plan="pro"}} {asked}.0',
            'shop_basket_euros_bucket{le="10.0"} 0.0',
            f'shop_basket_euros_bucket{{le="100.0"}} {asked}.0',
            f'shop_basket_euros_bucket{{le="+Inf"}} {asked}.0',
            f"shop_waiting_seconds_count {asked}.0",
            f"shop_waiting_seconds_sum {asked / 2}",
            times=6,
        )
        assert text.count("\nshop_open{") == 2
        counts = series(text, "http_server_request_duration_seconds_count", 'http_route="/order"')
        assert counts == [f"{asked}.0"]
        assert text.count("target_info{") == 1
        sink_names = {metric.name for metric in sink.metrics}
    assert not {name for name in sink_names if name.startswith("shop_")}
    if exporter == "otlp":
        assert sink.total("orders.placed", plan="pro") == asked


@pytest.mark.slow
def test_a_scrape_from_elsewhere_needs_the_token(tmp_path: Path) -> None:
    """With a token everybody needs it; without one this machine is answered, and nobody behind a proxy is. The port
    does the same.
    """
    source = LATE
    quiet = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "LOGS")}
    port = str(free_port())
    quiet |= {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": port}
    with served(tmp_path, source, **quiet) as base:
        for url in (f"{base}/metrics", f"http://127.0.0.1:{port}/metrics"):
            assert get(url)[0] == 200
            status, _, body = get(url, {"X-Forwarded-For": "203.0.113.7"})
            assert status == 403
            assert b"OTELKIT_METRICS_TOKEN" in body
    with served(tmp_path, source, OTELKIT_METRICS_TOKEN="s3cret", **quiet) as base:
        for url in (f"{base}/metrics", f"http://127.0.0.1:{port}/metrics"):
            status, headers, _ = get(url)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert get(url, {"Authorization": "Bearer wrong"})[0] == 401
            assert get(url, {"Authorization": "Basic s3cret"})[0] == 401
            given = {"Authorization": "Bearer s3cret", "X-Forwarded-For": "203.0.113.7"}
            assert get(url, given)[0] == 200
    assert "s3cret" not in (tmp_path / "log").read_text()
