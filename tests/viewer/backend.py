"""`otelkit ui` as a user starts it, and what a test asks it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from subprocess import Popen
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.server import BIN, clean_environment, free_port, running, wait_until_up

PROTOBUF = "application/x-protobuf"
Request = ExportTraceServiceRequest | ExportLogsServiceRequest | ExportMetricsServiceRequest


SIGNALS: dict[type, str] = {
    ExportTraceServiceRequest: "traces",
    ExportLogsServiceRequest: "logs",
    ExportMetricsServiceRequest: "metrics",
}


class Answer:
    """An answer of any status."""

    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """Its body as JSON."""
        return json.loads(self.body)


class Backend:
    """A running backend."""

    def __init__(self, url: str, log: Path, process: Popen[bytes]) -> None:
        self.url = url
        self.log = log
        self.process = process

    def ask(
        self,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> Answer:
        """One request, whatever becomes of it."""
        request = urllib.request.Request(f"{self.url}{path}", body, dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def get(self, question: str, **parameters: Any) -> Any:
        """The answer of the API, which must be one."""
        names = {name.rstrip("_"): value for name, value in parameters.items()}
        found = self.ask(f"/api/v1/{question}?{urllib.parse.urlencode(names)}")
        assert found.status == 200, found.body
        return found.json

    def send(self, request: Request) -> None:
        """Posts a request as protobuf, which must be taken."""
        signal = SIGNALS[type(request)]
        answer = self.ask(
            f"/v1/{signal}", body=request.SerializeToString(), headers={"Content-Type": PROTOBUF}, method="POST"
        )
        assert answer.status == 200, answer.body

    def wait(self, ask: Callable[[], Any], what: str, deadline_s: float = 15.0) -> Any:
        """Asks until the answer is true, and returns it."""
        end = time.monotonic() + deadline_s
        while not (found := ask()):
            assert time.monotonic() < end, f"{what} within {deadline_s:g} s; {self.log.read_text()}"
            time.sleep(0.05)
        return found

    def wait_for_rows(self, **rows: int) -> None:
        """Waits until so many spans, logs or points are kept."""
        self.wait(lambda: all(self.get("info")["rows"][name] >= n for name, n in rows.items()), f"{rows} are kept")


@contextmanager
def running_backend(folder: Path, *arguments: str, port: int = 0, **environ: str) -> Iterator[Backend]:
    """Runs `otelkit ui`, and ends it with SIGTERM."""
    port = port or free_port()
    log = folder / f"ui-{port}.log"
    command = [str(BIN / "otelkit"), "ui", "--port", str(port), "--grpc-port", "0", *arguments]
    environment = clean_environment(PYTHONUNBUFFERED="1", **environ)
    with running(command, cwd=folder, environ=environment, log=log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(url, process, log, 30.0)
        yield Backend(url, log, process)


def spans_request(*spans: Span, service: str = "shop", **resource: str) -> ExportTraceServiceRequest:
    """A request with spans of one service."""
    request = ExportTraceServiceRequest()
    one = request.resource_spans.add()
    for key, value in {"service.name": service, **resource}.items():
        one.resource.attributes.add(key=key.replace("_", ".")).value.string_value = value
    scope = one.scope_spans.add()
    scope.scope.name = "tests"
    scope.spans.extend(spans)
    return request


def span(
    name: str,
    *,
    trace: int = 1,
    number: int = 1,
    parent: int = 0,
    start_s: float | None = None,
    duration_ms: float = 10.0,
    kind: int = Span.SPAN_KIND_INTERNAL,
    error: bool = False,
    **attributes: Any,
) -> Span:
    """A span; a double underscore in an attribute's name stands for a dot."""
    made = Span(name=name, trace_id=trace.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
    if parent:
        made.parent_span_id = parent.to_bytes(8, "big")
    made.kind = kind  # type: ignore[assignment]
    made.start_time_unix_nano = int((time.time() if start_s is None else start_s) * 1e9)
    made.end_time_unix_nano = made.start_time_unix_nano + int(duration_ms * 1e6)
    if error:
        made.status.code = 2  # type: ignore[assignment]
    for key, value in attributes.items():
        fill(made.attributes.add(key=key.replace("__", ".")).value, value)
    return made


def fill(found: AnyValue, value: Any) -> None:
    """A value as protobuf."""
    if isinstance(value, bool):
        found.bool_value = value
    elif isinstance(value, int):
        found.int_value = value
    elif isinstance(value, float):
        found.double_value = value
    elif isinstance(value, str):
        found.string_value = value
    elif isinstance(value, list):
        found.array_value.SetInParent()
        for each in value:
            fill(found.array_value.values.add(), each)
    else:
        found.kvlist_value.SetInParent()
        for key, each in value.items():
            fill(found.kvlist_value.values.add(key=key).value, each)
