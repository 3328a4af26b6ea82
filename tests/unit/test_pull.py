"""The endpoint that a Prometheus server pulls metrics from, asked over real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from prometheus_client import CollectorRegistry, Counter

import otelkit
from otelkit.errors import ConfigurationError
from otelkit.pull.answering import respond
from otelkit.pull.endpoint import PullEndpoint, without_metrics
from otelkit.pull.exposition import Exposition
from otelkit.pull.mounted import MetricsApp
from tests.support.process import run_python
from tests.support.server import free_port
from tests.support.started import started


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Telemetry that serves /metrics on this port of loopback and exports nothing."""
    found = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(found))
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    monkeypatch.setenv("OTELKIT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OTELKIT_DISABLED_INSTRUMENTATIONS", "*")
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "*")
    yield found
    otelkit.shutdown(0)


def scrape(port: int) -> str:
    """What GET /metrics answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


def test_metrics_are_served(port: int) -> None:
    """Counters, gauges, histograms and what is observed, by the names that Prometheus has for them, without scopes."""
    otelkit.bootstrap("shop")
    otelkit.count("orders.placed", 2, plan="pro", _unit="{order}")
    otelkit.gauge("cache.entries", 3)
    otelkit.distribution("cart.fill.duration", 0.5, _unit="s")
    with otelkit.observe("queue.depth", lambda: 7):
        text = scrape(port)
    assert 'orders_placed_total{plan="pro"} 2.0\n' in text
    assert "cache_entries 3.0\n" in text
    assert "queue_depth 7.0\n" in text
    assert "cart_fill_duration_seconds_count 1.0\n" in text
    assert re.search(r'^target_info\{.*service_name="shop".*\} 1.0$', text, re.MULTILINE)
    assert "otel_scope" not in text
    otelkit.count("orders.placed", 40, plan="pro", _unit="{order}")
    assert 'orders_placed_total{plan="pro"} 42.0\n' in scrape(port)


def test_prometheus_own_tool_accepts_the_format(port: int) -> None:
    """promtool parses the whole answer; what it says of names concerns style alone."""
    promtool = shutil.which("promtool", path=os.environ.get("OTELKIT_STACK_BIN", "") or None)
    if promtool is None:
        pytest.skip("not found: promtool (OTELKIT_STACK_BIN, PATH)")
    otelkit.bootstrap("shop")
    otelkit.count("orders.placed", 2, plan='a "quoted\n\\plan"', _unit="{order}")
    otelkit.distribution("cart.fill.duration", 0.5, _unit="s")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=scrape(port), capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode in (0, 3), checked.stderr  # 3: it parsed, and its linter has remarks


def test_scrapes_at_once_do_not_mix() -> None:
    """The source is asked by one at a time, and each answer has every family once."""
    reader = InMemoryMetricReader()
    MeterProvider([reader], shutdown_on_exit=False).get_meter("test").create_counter("orders.placed").add(2)
    data = reader.get_metrics_data()
    inside: list[int] = []
    most = 0

    def collect() -> MetricsData | None:
        nonlocal most
        inside.append(1)
        threading.Event().wait(0.05)
        most = max(most, len(inside))
        inside.pop()
        return data

    port = free_port()
    endpoint = PullEndpoint(Exposition(collect), None, "127.0.0.1", port)
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(scrape(port))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    endpoint.close()
    assert most == 1
    assert [answer.count("orders_placed_total 2.0\n") for answer in answers] == [1] * 8


def test_the_port_is_free_again_after_the_end(port: int) -> None:
    """Nobody answers after shutdown; a new start serves new numbers at the same place."""
    otelkit.bootstrap("shop")
    otelkit.count("orders.placed", 2)
    assert "orders_placed_total 2.0" in scrape(port)
    otelkit.shutdown()
    with pytest.raises(urllib.error.URLError):
        scrape(port)
    otelkit.bootstrap("shop")
    otelkit.count("orders.placed", 1)
    assert "orders_placed_total 1.0" in scrape(port)


def test_a_taken_port_is_one_clear_error(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """It names the variable, the port and the remedy; the application goes on."""
    with socket.create_server(("127.0.0.1", port)), caplog.at_level(logging.WARNING, "otelkit"):
        otelkit.bootstrap("shop")
        otelkit.count("orders.placed")
    (record,) = [record for record in caplog.records if record.name == "otelkit.pull"]
    assert record.levelname == "ERROR"
    message = record.getMessage()
    assert (
        f"OTEL_EXPORTER_PROMETHEUS_PORT={port}: another process, of another service, listens on 127.0.0.1:{port}"
        in message
    )
    assert "set OTEL_EXPORTER_PROMETHEUS_PORT to a free port" in message
    assert otelkit.status()["state"] == "running"


@pytest.mark.parametrize("host", ["192.0.2.1", "no host at all"])
def test_an_address_that_is_not_ours_is_one_clear_error(
    host: str, port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also a name that nobody knows."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", host)
    with caplog.at_level(logging.WARNING, "otelkit"):
        otelkit.bootstrap("shop")
    (record,) = [record for record in caplog.records if record.name == "otelkit.pull"]
    assert record.levelname == "ERROR"
    assert f"OTEL_EXPORTER_PROMETHEUS_HOST={host!r}" in record.getMessage()


@pytest.mark.parametrize("missing", ["prometheus_client", "opentelemetry.exporter.prometheus"])
def test_a_missing_package_is_named(
    missing: str, port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a WARNING with the command that helps; under OTELKIT_STRICT it raises."""
    monkeypatch.setitem(sys.modules, missing, None)
    with caplog.at_level(logging.WARNING, "otelkit"):
        otelkit.bootstrap("shop")
    (record,) = [record for record in caplog.records if record.name == "otelkit.pull"]
    assert record.levelname == "WARNING"
    assert "pip install 'otelkit[prometheus]'" in record.getMessage()
    otelkit.shutdown(0)
    with pytest.raises(ConfigurationError, match=r"pip install 'otelkit\[prometheus\]'"):
        otelkit.bootstrap("shop", strict=True)


def test_one_of_many_processes_answers_for_all(tmp_path: Path) -> None:
    """The parent has the port and says what its child counts too; when it is gone the child takes its place, and the
    sums go on.
    """
    port = free_port()
    source = f"""
    import os, signal, sys, time, urllib.error, urllib.request, otelkit
    otelkit.bootstrap("shop", metrics_exporter="prometheus", traces_exporter="none", logs_exporter="none",
                      prometheus_host="127.0.0.1", prometheus_port={port}, metric_export_interval_s=1)

    def wait_for(line):
        deadline, text = time.monotonic() + 20, ""
        while line not in text:
            assert time.monotonic() < deadline, (line, text)
            time.sleep(0.05)
            try:
                text = urllib.request.urlopen("http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            except OSError:  # nobody listens, or whoever did was ending
                pass
        return text

    otelkit.count("orders.placed")
    child = os.fork()
    if child == 0:
        otelkit.gauge("cache.entries", 4)
        otelkit.count("orders.placed", 2)
        signal.pause()
    try:
        text = wait_for("orders_placed_total 3.0\\n")
        assert 'cache_entries{{otelkit_process_slot="1"}} 4.0' in text
        assert text.count("target_info{{") == 1
        otelkit.shutdown()
        wait_for("orders_placed_total 3.0\\n")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print("done")
    """
    assert run_python(source, cwd=tmp_path).out == "done\n"


HERE = ("127.0.0.1", 5)


def asked(app: Any, method: str = "GET", client: Any = HERE, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What an ASGI application answers a request for /metrics."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/metrics", "headers": given, "client": client}
    asyncio.run(app(scope, receive, send))
    start, body = sent
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"]


def test_the_application_hands_out_at_each_stage_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own registry always; otelkit's metrics from bootstrap to shutdown, and those of the new start after it."""
    registry = CollectorRegistry()
    Counter("shop_orders", "Orders.", registry=registry).inc()
    monkeypatch.setattr("otelkit.pull.registry.REGISTRY", registry)
    monkeypatch.setattr("otelkit.extras.pulled_by_application", False)
    settings: dict[str, Any] = {f"{signal}_exporter": "none" for signal in ("traces", "metrics", "logs")}
    settings |= {"disabled_instrumentations": "*", "state_dir": str(tmp_path)}
    app = otelkit.metrics_app()

    def seen() -> tuple[bool, list[str]]:
        status, _, body = asked(app)
        assert status == 200
        return b"\nshop_orders_total 1.0\n" in body, re.findall(
            r"^orders_placed_total (\S+)", body.decode(), re.MULTILINE
        )

    assert seen() == (True, [])
    otelkit.bootstrap("shop", **settings)
    otelkit.count("orders.placed", 2)
    assert seen() == (True, ["2.0"])
    with otelkit.testing.capture():
        otelkit.count("orders.placed", 40)
        assert seen() == (True, [])
    otelkit.count("orders.placed", 3)
    assert seen() == (True, ["3.0"])
    otelkit.shutdown(0)
    assert seen() == (True, [])
    otelkit.bootstrap("shop", **settings)
    otelkit.count("orders.placed", 5)
    assert seen() == (True, ["5.0"])
    otelkit.shutdown(0)


def test_switched_off_it_hands_out_the_applications_registry_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_SDK_DISABLED: nothing is recorded that could be pulled; what is the application's own goes on."""
    registry = CollectorRegistry()
    Counter("shop_orders", "Orders.", registry=registry).inc()
    monkeypatch.setattr("otelkit.pull.registry.REGISTRY", registry)
    monkeypatch.setattr("otelkit.extras.pulled_by_application", False)
    with started(tmp_path, sdk_disabled=True, metrics_token="token"):
        app = otelkit.metrics_app()
        otelkit.count("orders.placed")
        assert asked(app)[0] == 401
        status, _, body = asked(app, authorization="Bearer token")
    assert status == 200
    assert b"\nshop_orders_total 1.0\n" in body
    assert b"orders_placed" not in body


def test_a_late_call_has_the_sums_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Telemetry that started without it is asked from then on, and goes on as it did."""
    monkeypatch.setattr("otelkit.extras.pulled_by_application", False)
    with started(tmp_path, engine="otelkit") as running:
        otelkit.count("orders.placed", 2)
        app = otelkit.metrics_app()
        otelkit.count("orders.placed", 1)
        assert b"\norders_placed_total 3.0\n" in asked(app)[2]
        assert b"\norders_placed_total 3.0\n" in asked(otelkit.metrics_app())[2]
        assert running.flush().total("orders.placed") == 3


@pytest.mark.parametrize(
    ("client", "headers", "token", "status"),
    [
        (HERE, {}, None, 200),
        (("127.4.5.6", 5), {}, None, 200),
        (("::1", 5), {}, None, 200),
        (("::ffff:127.0.0.1", 5), {}, None, 200),
        (("10.0.0.7", 5), {}, None, 403),
        (("::ffff:10.0.0.7", 5), {}, None, 403),
        (("localhost", 5), {}, None, 403),
        (None, {}, None, 403),
        (HERE, {"x_forwarded_for": "10.0.0.7"}, None, 403),
        (HERE, {"forwarded": "for=10.0.0.7"}, None, 403),
        (HERE, {"x_real_ip": "10.0.0.7"}, None, 403),
        (HERE, {}, "t\u00f6ken", 401),
        (("10.0.0.7", 5), {"authorization": "Bearer other"}, "token", 401),
        (("10.0.0.7", 5), {"authorization": "Bearer "}, "token", 401),
        (("10.0.0.7", 5), {"authorization": "Bearer token"}, "token", 200),
        (("10.0.0.7", 5), {"authorization": "bearer token"}, "token", 200),
    ],
)
def test_who_may_see_the_metrics(client: Any, headers: dict[str, str], token: str | None, status: int) -> None:
    """This machine, unless a proxy stands between; with a token whoever has it, and nobody else."""
    assert asked(MetricsApp(lambda: (None, token)), client=client, **headers)[0] == status


def test_the_answer_is_what_the_request_asks_for() -> None:
    """GET and HEAD alone, compressed where that is taken, OpenMetrics where that is; what fails is a 500."""
    app = MetricsApp(lambda: (None, None))
    assert asked(app, "POST")[:2] == (
        405,
        {"content-type": "text/plain; charset=utf-8", "content-length": "12", "allow": "GET, HEAD"},
    )
    status, headers, body = asked(app, "HEAD")
    assert (status, body) == (200, b"")
    status, headers, body = asked(app, accept="application/openmetrics-text; version=1.0.0", accept_encoding="gzip")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert gzip.decompress(body).endswith(b"# EOF\n")

    def fails() -> MetricsData | None:
        raise OSError("no disk")

    answer = respond(Exposition(fails), None, "GET", "127.0.0.1", {})
    assert answer.status == 500
    assert b"no disk" not in answer.body


def test_without_its_package_the_application_starts_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A WARNING with the command that helps, and 503; under OTELKIT_STRICT it raises."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setattr("otelkit.extras.pulled_by_application", False)
    without_metrics.cache_clear()
    with started(tmp_path), caplog.at_level(logging.WARNING, "otelkit.pull"):
        app = otelkit.metrics_app()
        assert asked(app)[0] == 503
    assert "otelkit.metrics_app needs a package that is not installed" in caplog.text
    without_metrics.cache_clear()
    monkeypatch.setattr("otelkit.extras.pulled_by_application", False)
    with started(tmp_path, strict=True), pytest.raises(ConfigurationError, match=r"otelkit\[prometheus\]"):
        otelkit.metrics_app()


def test_a_name_that_both_have_is_otelkits() -> None:
    """Prometheus refuses a family that comes twice."""
    reader = InMemoryMetricReader()
    MeterProvider([reader], shutdown_on_exit=False).get_meter("test").create_counter("shop.orders").add(2)
    data = reader.get_metrics_data()
    registry = CollectorRegistry()
    Counter("shop_orders", "Orders.", registry=registry).inc()
    Counter("shop_parcels", "Parcels.", registry=registry).inc()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otelkit.pull.registry.REGISTRY", registry)
        _, text = Exposition(lambda: data).text("")
    assert text.count(b"\nshop_orders_total") == 1
    assert b"\nshop_orders_total 2.0\n" in text
    assert b"\nshop_parcels_total 1.0\n" in text
