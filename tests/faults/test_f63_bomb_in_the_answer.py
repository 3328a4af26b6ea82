"""The collector's answer is a bomb, few bytes that inflate to very many: at most 4 MiB are read, memory is bounded."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from socket import socket

import pytest

from otelkit.delivery.compression import zstd_module
from otelkit.delivery.transport import LONGEST_ANSWER_BYTES, Delivered, HttpTransport
from tests.faults.spooled import run_service
from tests.support.raw import HTTP_200, Raw, answering, read_request
from tests.support.records import a_destination
from tests.support.slow import slow

BOUND_KIB = 32 * 1024
"""What the answer may cost at most, in all: 4 MiB of it, and what urllib3 has in hand."""

SOURCE = """
import resource
import urllib3, urllib3.util.ssl_  # not the answer's memory
with otelkit.span("first"): pass
deadline = time.monotonic() + 20
while not (account := otelkit.status()["ledger"]["traces"])["delivered"]:
    assert time.monotonic() < deadline, account
    time.sleep(0.01)
print(json.dumps([account, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def squeezed(mebibytes: int, window_bits: int) -> bytes:
    """So many MiB of zeros, in less than a hundredth of them."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, window_bits)
    block = bytes(1 << 20)
    return b"".join(compressor.compress(block) for _ in range(mebibytes)) + compressor.flush()


def gzip_twice(mebibytes: int) -> bytes:
    """A gzip in a gzip."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    return compressor.compress(squeezed(mebibytes, 31)) + compressor.flush()


def zstd(mebibytes: int) -> bytes:
    """So many MiB of zeros by zstd, where urllib3 could inflate them: otelkit[zstd] is installed."""
    module = zstd_module()
    if module is None:
        pytest.skip("no zstd for this Python")
    content: bytes = module.compress(bytes(mebibytes << 20))
    return content


BOMBS: dict[str, Callable[[], bytes]] = {
    "zstd": lambda: zstd(128),
    "gzip": lambda: squeezed(128, 31),
    "deflate": lambda: squeezed(128, 15),
    "gzip, gzip": lambda: gzip_twice(128),
}


def peak_kib(place: Path, port: int) -> int:
    """The most memory of a process that delivers one span to a port."""
    place.mkdir()
    environ = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    finished = run_service(SOURCE, port, place, environ=environ)
    account, peak = json.loads(finished.out)
    assert (account["delivered"], account["dropped"]) == (1, {})
    return int(peak)


@pytest.mark.parametrize("encoding", ["gzip", *slow("zstd", "deflate", "gzip, gzip")])
def test_it_costs_no_memory(tmp_path: Path, encoding: str) -> None:
    """The status has decided: the span is delivered. The official exporter grows by 638 MiB."""
    bomb = BOMBS[encoding]()
    head = f"content-encoding: {encoding}\r\ncontent-length: {len(bomb)}\r\n\r\n".encode()
    with Raw(answering(HTTP_200 + b"content-length: 0\r\n\r\n")) as harmless:
        usual_kib = peak_kib(tmp_path / "usual", harmless.port)
    with Raw(answering(HTTP_200 + head + bomb)) as server:
        assert peak_kib(tmp_path / "bomb", server.port) - usual_kib < BOUND_KIB


@pytest.mark.slow
@pytest.mark.parametrize("unit", [b"\x00\x00", b"\x10\x01", b"\x0a\x00"], ids=["zeros", "numbers", "messages"])
def test_it_costs_no_time(unit: bytes) -> None:
    """What can be read is not all looked at: two million fields would hold the interpreter, and with it the
    application, for seconds.
    """
    bomb = gzip.compress(unit * (LONGEST_ANSWER_BYTES // 2), 1)
    head = f"content-encoding: gzip\r\ncontent-length: {len(bomb)}\r\n\r\n".encode()
    with Raw(answering(HTTP_200 + head + bomb)) as server:
        transport = HttpTransport(a_destination(server.url))
        transport.send(b"")  # what the first request imports and connects
        took_s = []
        for _ in range(3):
            began = time.process_time()
            assert transport.send(b"") == Delivered()
            took_s.append(time.process_time() - began)
        transport.close()
    assert min(took_s) < 0.25


@pytest.mark.slow
def test_an_answer_without_an_end_is_read_up_to_the_bound() -> None:
    """No compression: what the server could send before the connection was closed; the next request is not spoiled."""
    block = b"\xff" * 65536
    sent: list[int] = []

    def serve(connection: socket) -> None:
        while read_request(connection):
            if sent:
                connection.sendall(HTTP_200 + b"content-length: 0\r\n\r\n")
                continue
            connection.sendall(HTTP_200 + b"transfer-encoding: chunked\r\n\r\n")
            while len(sent) * len(block) < 100 * LONGEST_ANSWER_BYTES:
                connection.sendall(b"%x\r\n%b\r\n" % (len(block), block))  # an OSError when the other side hangs up
                sent.append(len(block))

    with Raw(serve) as server:
        transport = HttpTransport(a_destination(server.url, timeout_s=5.0))
        assert transport.send(b"") == Delivered()
        assert transport.send(b"") == Delivered()
        transport.close()
    # The rest was in the sockets' buffers.
    assert LONGEST_ANSWER_BYTES <= sum(sent) < 4 * LONGEST_ANSWER_BYTES
