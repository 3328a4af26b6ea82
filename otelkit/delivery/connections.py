"""Connections that can be broken off: urllib3's time-outs are for each read, not for a request.

A server that sends a byte of its answer now and then would keep a request, and the sender thread, for as long as it
likes. urllib3 is imported here, and this module by the sender thread (transport.py).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection


def breakable(manager: PoolManager) -> Callable[[], None]:
    """Makes the connections of a manager ones that another thread can break off; returns what does so with the latest:
    whoever reads from it gets the end of the stream.
    """
    latest: list[object] = []

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            latest[:] = [self.sock]

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            latest[:] = [self.sock]

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    def break_off() -> None:
        for found in latest:
            if isinstance(found, socket.socket):  # TLS within a proxy's TLS is not one
                with contextlib.suppress(OSError):
                    # The plain socket's: that of TLS would pull the state away from under the thread that reads.
                    socket.socket.shutdown(found, socket.SHUT_RDWR)

    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return break_off
