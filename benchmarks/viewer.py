"""How many spans a second `otelkit ui` takes and writes, and how fast it answers meanwhile and afterwards.

    python -m benchmarks.viewer --seconds 60
    python -m benchmarks.viewer --spans 250000 1000000 4000000

Senders post requests of 512 spans with 12 attributes each over HTTP, with gzip, to a database in a folder, while a live
page is open. Each has one connection and waits for its answers, and for the time that a 429 asks for. With numbers of
spans everything is measured at each of them, to see how it grows. What is printed is of this machine, senders and all.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import itertools
import json
import os
import random
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from otelkit.delivery.wire import pack_fixed64, sized, utf8, varint
from tests.viewer.backend import Backend, running_backend

SPANS = 512
SPANS_A_TRACE = 8
USERS = [random.randrange(100_000) for _ in range(20 * SPANS)]
_QUESTIONS = {
    "list of traces": "traces",
    "RED by route": "red",
    "service map": "map",
    "errors": "errors",
    "statements": "queries",
    "attribute": f"traces?q=user.id:{USERS[4711]}",
    "attribute, nobody has it": "traces?q=user.id:100000",
    "slow requests": "traces?q=duration%3E95ms+kind:server",
}
_SCANNED = "search/traces?q=user.id:100000*"
"""Part of a value, which nobody has: everything is looked through."""


def _attribute(key: str, value: str | int) -> bytes:
    content = sized(b"\x0a", utf8(value)) if isinstance(value, str) else b"\x18" + varint(value)
    return sized(b"\x4a", sized(b"\x0a", utf8(key)) + sized(b"\x12", content))


def _rest(place: int) -> bytes:
    """A span but its ids and times."""
    server = place % SPANS_A_TRACE == 0
    specific: dict[str, str | int] = (
        {"http.route": f"/orders/{{{place % 30}}}", "url.path": f"/orders/{random.randrange(10**9)}"}
        if server
        else {"db.system.name": "postgresql", "db.query.text": f"SELECT * FROM t{place % 40} WHERE id = ?"}
    )
    attributes: dict[str, str | int] = {
        **specific,
        "http.request.method": "GET",
        "url.scheme": "http",
        "server.address": "db" if not server else "localhost",
        "server.port": 8000,
        "http.response.status_code": 200,
        "user_agent.original": "curl/8.0",
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "plan": "pro",
        "user.id": USERS[place],
    }
    name = sized(b"\x2a", utf8(f"GET /orders/{place % 30}" if server else "SELECT"))
    status = sized(b"\x7a", b"\x18\x02") if place % 100 == 0 else b""
    kind = b"\x30" + varint(2 if server else 3)
    return name + kind + b"".join(_attribute(key, value) for key, value in attributes.items()) + status


RESTS = [_rest(place) for place in range(len(USERS))]
RESOURCE = sized(b"\x0a", sized(b"\x0a", sized(b"\x0a", b"service.name") + sized(b"\x12", sized(b"\x0a", b"bench"))))


def request(number: int) -> bytes:
    """The next request: new traces, of now."""
    parts = []
    first = number * SPANS % len(RESTS)
    now = time.time_ns()
    trace_id = root = b""
    for place in range(SPANS):
        span_id = os.urandom(8)
        begins = place % SPANS_A_TRACE == 0
        if begins:
            trace_id, root = os.urandom(16), span_id
        start = now + place * 1000
        head = b"\x0a\x10" + trace_id + b"\x12\x08" + span_id + (b"" if begins else b"\x22\x08" + root)
        times = b"\x39" + pack_fixed64(start) + b"\x41" + pack_fixed64(start + random.randrange(10**5, 10**8))
        parts.append(sized(b"\x12", head + times + RESTS[first + place]))
    return gzip.compress(sized(b"\x0a", RESOURCE + sized(b"\x12", b"".join(parts))), 1)


class Page(threading.Thread):
    """An open live page."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.events = 0

    def run(self) -> None:
        """Reads until the server ends."""
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/live", timeout=60) as stream:
                for line in stream:
                    self.events += line.startswith(b"event: ")
        except OSError:
            return


class Sender(threading.Thread):
    """Posts, until the time is over or so many spans were taken."""

    def __init__(self, url: str, numbers: Iterator[int], until_s: float, most: int) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._numbers = numbers
        self._until_s = until_s
        self._most = most
        self.taken = self.refused = 0

    def run(self) -> None:
        """Over one connection, one request after the other."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self._url).netloc, timeout=60)
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        while time.monotonic() < self._until_s and self.taken < self._most:
            body = request(next(self._numbers))
            while True:
                connection.request("POST", "/v1/traces", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    self.taken += SPANS
                    break
                self.refused += 1
                time.sleep(float(answer.headers.get("Retry-After", 1)))


def send(url: str, senders: int, seconds: float, most: int) -> tuple[int, int, float]:
    """What all of them sent: how many spans were taken, how many requests refused, in how many seconds."""
    began = time.monotonic()
    numbers = itertools.count()  # its next is one step of the interpreter
    threads = [Sender(url, numbers, began + seconds, -(-most // senders)) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - began
    return sum(each.taken for each in threads), sum(each.refused for each in threads), took_s


def ask(backend: Backend, question: str) -> tuple[float, Any]:
    """How long an answer takes, in ms: the median of three."""
    times = []
    found: Any = None
    for _ in range(3):
        began = time.perf_counter()
        with urllib.request.urlopen(f"{backend.url}/api/v1/{question}", timeout=60) as answer:
            found = json.load(answer)
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[1], found


def search(backend: Backend) -> tuple[float, float, float]:
    """How long a search through everything takes until its first line and its last, and the longest wait for one, in
    ms.
    """
    began = time.perf_counter()
    with urllib.request.urlopen(f"{backend.url}/api/v1/{_SCANNED}", timeout=60) as answer:
        times = [began, *(time.perf_counter() for _ in answer)]
    longest = max(later - earlier for earlier, later in itertools.pairwise(times))
    return (times[1] - began) * 1000, (times[-1] - began) * 1000, longest * 1000


def measure(backend: Backend, senders: int, already: int, seconds: float, most: int) -> dict[str, float]:
    """Sends for so long or so many, waits until all is written, and asks: what was measured, by name with its unit."""
    viewer = psutil.Process(backend.process.pid)
    cpu, own = viewer.cpu_times(), time.process_time()
    taken, refused, took_s = send(backend.url, senders, seconds, most)
    own = time.process_time() - own
    backend.wait(lambda: backend.get("info")["rows"]["spans"] >= already + taken, "all is written", 120)
    after = viewer.cpu_times()
    used = after.user + after.system - cpu.user - cpu.system
    spans = already + taken
    found = {
        "spans": spans,
        "spans/s": taken / took_s,
        "told to wait": refused,
        "viewer's CPU, us a span": used / taken * 1e6,
        "senders' CPU, us a span": own / taken * 1e6,
        "memory of the viewer, MB": viewer.memory_info().rss >> 20,
        "on disk, bytes a span": backend.get("info")["bytes"] / spans,
    }
    for name, question in _QUESTIONS.items():
        found[f"{name}, ms"] = ask(backend, question)[0]
    found["all, first line, ms"], found["all, last line, ms"], found["all, longest wait, ms"] = search(backend)
    trace_id = ask(backend, "traces?limit=1")[1]["traces"][0]["trace_id"]
    found["a trace by its id, ms"] = ask(backend, f"traces/{trace_id}")[0]
    return found


def main() -> None:
    """Runs it and prints what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, where no number of spans is given")
    parser.add_argument("--senders", type=int, default=2)
    parser.add_argument("--spans", type=int, nargs="+", default=[], help="after how many spans to measure")
    arguments = parser.parse_args()
    measured: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name, running_backend(Path(name), "--db", f"{name}/db") as backend:
        page = Page(backend.url)
        page.start()
        for spans in arguments.spans or [1 << 40]:
            already = int(measured[-1]["spans"]) if measured else 0
            seconds = float("inf") if arguments.spans else arguments.seconds
            measured.append(measure(backend, arguments.senders, already, seconds, spans - already))
        print(f"events of the live page: {page.events}")
        for what in measured[0]:
            print(f"{what:>28}", *(f"{each[what]:>10,.0f}" for each in measured), flush=True)


if __name__ == "__main__":
    main()
