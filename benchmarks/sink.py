"""The receiver, a process of its own: `python -m benchmarks.sink`.

It acknowledges at once and only keeps the bodies, so that it is never what others wait for; `GET /received` reads
them, answers with the counts as JSON, and begins anew. It says `{"port": …}` and ends with its standard input.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from benchmarks.sinks import KINDS, Count, Counts, datadog, elastic, otlp, sentry

COUNTERS: dict[str, Count] = {**otlp.COUNTERS, **sentry.COUNTERS, **datadog.COUNTERS, **elastic.COUNTERS}
ANSWERS: dict[str, bytes] = {**datadog.ANSWERS, **elastic.ANSWERS}

_DECODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "": bytes}


class Body(NamedTuple):
    """What was posted."""

    path: str
    encoding: str
    content: bytes


def count(bodies: list[Body]) -> Counts:
    """Counts what is in the bodies; `unknown` are the paths that no format of ours has."""
    counts: Counts = {kind: Counter() for kind in (*KINDS, "unknown")}
    for body in bodies:
        if body.path in COUNTERS:
            COUNTERS[body.path](_DECODERS[body.encoding](body.content), counts)
        else:
            counts["unknown"][body.path] += 1
    return counts


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies: list[Body] = []  # noqa: RUF012 - one sink a process

    def do_POST(self) -> None:
        content = self._content()
        path = self.path.partition("?")[0]
        self.bodies.append(Body(path, self.headers.get("content-encoding", ""), content))
        if path in COUNTERS:
            self._answer(200, ANSWERS.get(path, b""))
        else:
            self._answer(404)

    do_PUT = do_POST  # noqa: N815 - the name that http.server calls

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/received":
            taken = self.bodies[:]
            del self.bodies[: len(taken)]
            self._answer(200, json.dumps(count(taken)).encode())
        elif path in ANSWERS:
            self._answer(200, ANSWERS[path])
        else:
            self._answer(404)

    def _content(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers["content-length"]))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        if body:
            self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def run() -> None:
    """Receives until standard input ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    run()
