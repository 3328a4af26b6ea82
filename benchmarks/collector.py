"""A collector that can be taken away, a process of its own: `python -m benchmarks.collector`.

It says `{"port": …}` and is up. `{"mode": M}` has it be `up`, or fail: `refused` (nobody listens), `hanging` (it reads
and never answers) or `503`. It keeps a number for each record that it acknowledged; `{"unique": true}` is answered
with how many different ones there were, by service and kind. It ends with its standard input.
"""

from __future__ import annotations

import gzip
import os
import socket
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.conversation import answer_in_thread, begin, say
from benchmarks.sinks.otlp import points_of, text, within

FAILURES = ("refused", "hanging", "503")

_SERVICE_NAME = "service.name"


def identified(kind: str, body: bytes) -> Iterator[tuple[str, int]]:
    """The service and the number of every record in a request.

    The number is made of the record's and its resource's bytes. Who sends a record again sends the same bytes, and no
    two records have the same: spans have ids, the log lines that we make are numbered, points of a series have times.
    """
    for part in within(body, 1):
        resource = b"".join(within(part, 1))
        service, key = _service(resource), blake2b(resource, digest_size=16).digest()
        for record in _records(kind, part):
            digest = blake2b(record, digest_size=8, key=key)
            yield service, int.from_bytes(digest.digest(), "little")


def _service(resource: bytes) -> str:
    named = (text(pair, 2, 1) for pair in within(resource, 1) if text(pair, 1) == _SERVICE_NAME)
    return next(named, "")


def _records(kind: str, part: bytes) -> Iterator[bytes]:
    if kind != "metrics":
        yield from within(part, 2, 2)
        return
    for metric in within(part, 2, 2):
        name = text(metric, 1).encode()
        yield from (name + point for point in points_of(metric))


class Records:
    """The numbers of all records that came, with those that came twice: 8 bytes each."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], array[int]] = {}

    def take(self, kind: str, body: bytes) -> None:
        """Keeps the numbers of a request's records."""
        for service, number in identified(kind, body):
            self._kept.setdefault((service, kind), array("Q")).append(number)

    def unique(self) -> dict[str, dict[str, int]]:
        """How many different records of each kind came from each service."""
        return self._by_service(lambda numbers: len(set(numbers)))

    def all(self) -> dict[str, dict[str, int]]:
        """How many records came, those that came again included."""
        return self._by_service(len)

    def _by_service(self, count: Callable[[array[int]], int]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for (service, kind), numbers in self._kept.items():
            found.setdefault(service, {})[kind] = count(numbers)
        return found


class Collector:
    """Listens on one port of loopback, now and then."""

    def __init__(self) -> None:
        self._held = socket.socket()  # bound and never listening: the port stays ours while we refuse
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port = int(self._held.getsockname()[1])
        self.answering = threading.Lock()  # a request is taken and answered in one mode
        self.mode = "refused"
        self.mode_ended = threading.Event()
        self.records = Records()
        self.connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None

    def become(self, mode: str) -> None:
        """Changes the mode; who waited for an answer that does not come is disconnected."""
        with self.answering:
            self.mode = mode
            ended, self.mode_ended = self.mode_ended, threading.Event()
        ended.set()
        if mode == "refused":
            self._stop()
        elif self._server is None:
            self._start()

    def _start(self) -> None:
        handler = type("Handler", (_Handler,), {"collector": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector: Collector

    def setup(self) -> None:
        super().setup()
        self.collector.connections.add(self.connection)

    def finish(self) -> None:
        self.collector.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        body = self.rfile.read(length)
        self.close_connection = True  # unless it is answered
        if len(body) < length:
            return
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        collector = self.collector
        with collector.answering:
            mode, ended = collector.mode, collector.mode_ended
            if mode == "up":
                collector.records.take(self.path.rpartition("/")[2], body)  # …/v1/traces and so on
                self._answer(200)
            elif mode == "503":
                self._answer(503)
        if mode == "hanging":
            ended.wait()

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
        self.close_connection = False

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def run() -> None:
    """Does as it is told until standard input ends."""
    collector = Collector()
    collector.become("up")

    def answer(words: Mapping[str, Any]) -> Mapping[str, object]:
        if "mode" in words:
            collector.become(words["mode"])
            return {}
        with collector.answering:
            return {"unique": collector.records.unique(), "all": collector.records.all()}

    answer_in_thread(answer, lambda: os._exit(0))
    say(port=collector.port)
    threading.Event().wait()


if __name__ == "__main__":
    begin()
    run()
