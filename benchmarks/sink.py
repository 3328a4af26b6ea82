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
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Counts = dict[str, Counter[str]]
"""Names of spans, loggers of log records, names of metrics (each with its points); and requests of unknown paths."""

_Field = int | bytes


def _fields(message: bytes) -> Iterator[tuple[int, _Field]]:
    """The fields of a protobuf message. The sink has a reader of its own, not that of what it checks."""
    position = 0

    def varint() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = message[position]
            position += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    while position < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        length = varint() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
        yield tag >> 3, message[position : position + length]
        position += length


def _within(message: bytes, *path: int) -> Iterator[bytes]:
    """The messages under a path of field numbers."""
    for number, content in _fields(message):
        if number == path[0] and isinstance(content, bytes):
            if len(path) == 1:
                yield content
            else:
                yield from _within(content, *path[1:])


def _text(message: bytes, *path: int) -> str:
    return next((found.decode() for found in _within(message, *path)), "")


def _spans(body: bytes, counts: Counter[str]) -> None:
    for span in _within(body, 1, 2, 2):
        counts[_text(span, 5)] += 1


def _logs(body: bytes, counts: Counter[str]) -> None:
    for scope in _within(body, 1, 2):
        counts[_text(scope, 1, 1)] += sum(1 for _ in _within(scope, 2))


def _points(body: bytes, counts: Counter[str]) -> None:
    for metric in _within(body, 1, 2, 2):
        gauge, summation, histogram, exponential = 5, 7, 9, 10
        for kind in (gauge, summation, histogram, exponential):
            counts[_text(metric, 1)] += sum(1 for _ in _within(metric, kind, 1))


COUNTERS: dict[str, tuple[str, Callable[[bytes, Counter[str]], None]]] = {
    "/v1/traces": ("spans", _spans),
    "/v1/logs": ("logs", _logs),
    "/v1/metrics": ("points", _points),
}
"""What a path's bodies hold, and who counts it; a peer with a format of its own has its row here."""


def count(bodies: list[tuple[str, str, bytes]]) -> Counts:
    """Counts what is in the bodies of (path, content encoding, body)."""
    counts: Counts = {"spans": Counter(), "logs": Counter(), "points": Counter(), "unknown": Counter()}
    for path, encoding, body in bodies:
        if path not in COUNTERS:
            counts["unknown"][path] += 1
            continue
        kind, read = COUNTERS[path]
        read(gzip.decompress(body) if encoding == "gzip" else body, counts[kind])
    return counts


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies: list[tuple[str, str, bytes]] = []  # noqa: RUF012 - one sink a process

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.bodies.append((self.path, self.headers.get("content-encoding", ""), body))
        self._answer(b"")

    def do_GET(self) -> None:
        taken = self.bodies[:]
        self.bodies.clear()
        self._answer(json.dumps(count(taken)).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
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
