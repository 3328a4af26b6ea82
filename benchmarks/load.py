"""The load: one keep-alive connection that asks again when it has the answer."""

from __future__ import annotations

import socket
import time


class Client:
    """One HTTP/1.1 connection; enough of the protocol for the benchmark's own application."""

    def __init__(self, port: int, *, deadline_s: float = 20.0) -> None:
        """Raises OSError when nothing listens at `deadline_s`."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                self._socket = socket.create_connection(("127.0.0.1", port), timeout=deadline_s)
                break
            except ConnectionRefusedError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path: str) -> bytes:
        """The body of a 200. Raises RuntimeError for any other answer."""
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: benchmark/1\r\naccept: */*\r\n\r\n".encode()
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.lower().split(b"\r\n")
        if status.split()[1] != b"200":
            raise RuntimeError(f"GET {path}: {received!r}")
        length = int(next(line for line in lines if line.startswith(b"content-length:")).partition(b":")[2])
        while len(body) < length:
            body += self._more()
        return body

    def _more(self) -> bytes:
        received = self._socket.recv(65536)
        if not received:
            raise RuntimeError("the server closed the connection")
        return received

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()
