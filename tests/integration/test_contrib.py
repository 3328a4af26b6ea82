"""The ecosystem's instrumentations beside otelkit's own: chosen at a library's import, never two for one thing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.contrib import needs_contrib, pretend
from tests.support.process import run_python
from tests.support.sink import Sink

# The contrib packages of the dev group are installed: fastapi, httpx, jinja2, logging, redis, requests, sqlite3,
# threading, urllib3 and more; beside the newest SDK those that have a release for it.
PROGRAM = """
import json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
thread = threading.Thread(target=server.serve_forever, daemon=True)
thread.start()
url = f"http://127.0.0.1:{server.server_port}/path"

import otelkit
otelkit.bootstrap("contrib")
before = {name: row["active"] for name, row in otelkit.status()["libraries"].items()}

import httpx, jinja2, requests, sqlalchemy, urllib3
with otelkit.span("httpx"):
    httpx.get(url)
with otelkit.span("requests"):
    requests.get(url)
with otelkit.span("urllib3"):
    urllib3.PoolManager().request("GET", url)
with otelkit.span("jinja2"):
    jinja2.Template("{{ x }}").render(x=1)
with otelkit.span("sqlalchemy"), sqlalchemy.create_engine("sqlite://").connect() as connection:
    connection.execute(sqlalchemy.text("SELECT 1"))
with otelkit.span("thread"):
    started = threading.Thread(target=lambda: None)
    started.start()
    started.join()
assert otelkit.flush().ok
for _ in range(3):
    otelkit.count("exports")
    assert otelkit.flush().ok
server.shutdown()
libraries = otelkit.status()["libraries"]
print(json.dumps({"before": before, "after": libraries}))
"""


def run(sink: Sink, folder: Path, **environ: str) -> dict[str, dict[str, Any]]:
    """Runs the program; its report of who instruments what."""
    finished = run_python(PROGRAM, cwd=folder, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, **environ})
    found: dict[str, dict[str, Any]] = json.loads(finished.out.splitlines()[-1])
    return found


def children(sink: Sink, name: str) -> list[tuple[str, str]]:
    """Scope and name of the spans below a business span."""
    parent = next(span for span in sink.spans if span.name == name and span.scope == "otelkit")
    below = {parent.span_id}
    found = []
    for span in sorted(sink.spans, key=lambda span: span.span.start_time_unix_nano):
        if span.parent_id in below:
            below.add(span.span_id)
            found.append((span.scope.rpartition(".")[2], span.name))
    return found


@needs_contrib("httpx", "jinja2", "requests", "sqlite3", "threading", "urllib3")
def test_one_thing_is_one_span_with_all_of_them_installed(sink: Sink, tmp_path: Path) -> None:
    """Clients of contrib, statements of ours, nothing doubled, and no span of otelkit's own exports."""
    report = run(sink, tmp_path)
    assert children(sink, "httpx") == [("httpx", "GET")]
    assert children(sink, "requests") == [("requests", "GET")]
    assert children(sink, "urllib3") == [("urllib3", "GET")]
    assert {scope for scope, _ in children(sink, "jinja2")} == {"jinja2"}
    assert children(sink, "sqlalchemy") == [("sqlalchemy", "SELECT")]
    assert children(sink, "thread") == []
    roots = [span.name for span in sink.spans if not span.parent_id]
    assert sorted(roots) == ["httpx", "jinja2", "requests", "sqlalchemy", "thread", "urllib3"]
    ports = {span.attributes.get("server.port") for span in sink.spans}
    assert sink.port not in ports
    assert report["before"]["httpx"] is False
    libraries = report["after"]
    for name in ("httpx", "jinja2", "requests", "urllib3"):
        assert (libraries[name]["choice"], libraries[name]["active"]) == ("contrib", True), name
    assert libraries["sqlite3"]["choice"] == "off"
    assert "under sqlalchemy" in libraries["sqlite3"]["reason"]
    assert libraries["threading"]["choice"] == "otelkit"


def test_contrib_records_stable_conventions(sink: Sink, tmp_path: Path) -> None:
    """HTTP clients carry `http.request.method`, not the old `http.method`."""
    run(sink, tmp_path)
    span = next(span for span in sink.spans if span.scope.endswith(".httpx"))
    assert span.attributes["http.request.method"] == "GET"
    assert "http.method" not in span.attributes


@needs_contrib("httpx", "requests", "sqlite3", "urllib3")
def test_each_can_be_switched_off_or_on(sink: Sink, tmp_path: Path) -> None:
    """OTELKIT_INSTRUMENT_<LIB> and the launcher's variable decide; a driver that is asked for is recorded."""
    report = run(
        sink,
        tmp_path,
        OTELKIT_INSTRUMENT_HTTPX="off",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="requests",
        OTELKIT_INSTRUMENT_SQLALCHEMY="off",
        OTELKIT_INSTRUMENT_SQLITE3="contrib",
    )
    assert children(sink, "httpx") == []
    assert children(sink, "requests") == [("urllib3", "GET")]
    assert {scope for scope, _ in children(sink, "sqlalchemy")} == {"sqlite3"}
    assert report["after"]["httpx"]["reason"] == "by setting"


def test_a_contrib_package_that_is_not_installed_is_named(sink: Sink, tmp_path: Path) -> None:
    """contrib for SQLAlchemy without its package: otelkit's own records, and one WARNING says why."""
    finished = run_python(
        "import otelkit\n"
        "otelkit.bootstrap('x', traces_exporter='none', metrics_exporter='none', logs_exporter='none')\n"
        "print(otelkit.status()['libraries']['sqlalchemy']['choice'])\n",
        cwd=tmp_path,
        environ={"OTELKIT_INSTRUMENT_SQLALCHEMY": "contrib"},
    )
    assert finished.out.strip() == "otelkit"
    assert "OTELKIT_INSTRUMENT_SQLALCHEMY=contrib, but its package is not installed" in finished.err


def test_strict_raises_for_what_is_a_warning_otherwise(tmp_path: Path) -> None:
    """The same under OTELKIT_STRICT=1 is an exception of bootstrap's."""
    finished = run_python(
        "import otelkit\n"
        "try:\n"
        "    otelkit.bootstrap('x', traces_exporter='none', metrics_exporter='none', logs_exporter='none')\n"
        "except otelkit.UnsupportedLibrary as error:\n"
        "    print(error)\n",
        cwd=tmp_path,
        environ={"OTELKIT_INSTRUMENT_SQLALCHEMY": "contrib", "OTELKIT_STRICT": "1"},
    )
    assert "its package is not installed" in finished.out


def test_a_version_without_telemetry_of_its_own_is_recorded_by_otelkit(tmp_path: Path) -> None:
    """`native` for a FastAPI that has none yet: otelkit's own records, and one WARNING says why."""
    pretend(tmp_path, "fastapi", "0.141.0")
    finished = run_python(
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import otelkit\n"
        "otelkit.bootstrap('x', traces_exporter='none', metrics_exporter='none', logs_exporter='none')\n"
        "print(otelkit.status()['libraries']['fastapi'])\n",
        cwd=tmp_path,
        environ={"OTELKIT_INSTRUMENT_FASTAPI": "native"},
    )
    assert "'choice': 'otelkit'" in finished.out
    assert "fastapi 0.141.0 has no telemetry of its own" in finished.err
