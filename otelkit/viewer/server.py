"""Puts the backend together and runs it: ports, the application, and what is said at the start."""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from otelkit.viewer import api, otlp_http
from otelkit.viewer.connections import PatientProtocol
from otelkit.viewer.live import Live
from otelkit.viewer.receive import Receiver
from otelkit.viewer.searching import Searches
from otelkit.viewer.security import Guarded
from otelkit.viewer.store import Bounds, Store
from otelkit.viewer.writer import Writer

STATIC = Path(__file__).parent / "static"
HTTP_PORT, GRPC_PORT = 4318, 4317
_MOST_WAITING_BYTES = 64 << 20
_PORTS_TRIED = 20
_SWITCH_S = 0.0005
"""After which a thread that computes lets another one run: the server's, the decoder's and the writer's hand work to
each other, and with Python's 5 ms a request waits several times for as long as its decoding takes."""
_PAGES = ("/", "/traces", "/traces/{id}", "/logs", "/metrics", "/metrics/{name:path}", "/map", "/errors",
          "/errors/{fingerprint}", "/queries", "/health", "/sql")  # fmt: skip


class PortTaken(Exception):
    """No port could be had."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the backend is run; where `port` is taken the next free one is used."""

    host: str = "127.0.0.1"
    port: int = HTTP_PORT
    grpc_port: int = GRPC_PORT
    database: Path | None = None
    bounds: Bounds = field(default_factory=Bounds)
    token: str | None = None
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """A listening socket on a port, or on the next free one; port 0 is any.

    Raises PortTaken where none of twenty is free, and OSError where the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, port + _PORTS_TRIED) if port else (0,):
        made = socket.socket(family, socket.SOCK_STREAM)
        # Without it a port of a connection that has just ended would count as taken; a listener's still is.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, candidate))
            made.listen(512)
        except OSError as error:
            made.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return made
    raise PortTaken(f"the ports {port} to {port + _PORTS_TRIED - 1} are all taken")


class _Server(uvicorn.Server):
    """uvicorn's server, which ends this process by the signal that ended it before anything can be closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends the server on SIGINT and SIGTERM, and then returns."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Backend:
    """The running parts, on a socket that is bound already."""

    def __init__(self, options: Options, listening: socket.socket, *, say: Callable[[str], None]) -> None:
        """Opens the database.

        Raises DatabaseInUse and OSError.
        """
        self.options = options
        self._socket = listening
        self._started_s = time.time()
        self.store = Store(options.database, options.bounds, say=say)
        self.live = Live(self.store, self._stats)
        self.writer = Writer(self.store, most_bytes=_MOST_WAITING_BYTES, say=say, written=self.live.written)
        self.receiver = Receiver(self.writer)
        self.searches = Searches(self.store)
        self.app = Starlette(routes=self._routes())
        state = self.app.state
        state.store, state.receiver, state.live, state.info = self.store, self.receiver, self.live, self.info
        state.searches, state.dropped = self.searches, self._dropped
        port = listening.getsockname()[1]
        self.url = f"http://{_shown_host(options.host)}:{port}"
        self._grpc, grpc_port = self._start_grpc()
        self.grpc_url = f"http://{_shown_host(options.host)}:{grpc_port}" if grpc_port else None
        guarded = Guarded(self.app, hosts=options.hosts, token=options.token, origins=options.origins)
        self._server = _Server(
            uvicorn.Config(
                guarded,
                http=PatientProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=2,
                limit_concurrency=500,
            )
        )

    def _routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/{signal:str}", otlp_http.export, methods=["POST"]),
            *api.routes(),
            Mount("/static", _PageFiles(directory=STATIC, check_dir=False)),
            *(Route(path, page) for path in _PAGES),
        ]

    def _start_grpc(self) -> tuple[Any, int | None]:
        try:
            from otelkit.viewer import otlp_grpc
        except ImportError:
            return None, None
        started = otlp_grpc.start(self.receiver, self.options.host, self.options.grpc_port, self.options.token)
        return started or (None, None)

    def run(self) -> None:
        """Serves until SIGINT or SIGTERM, then writes what waits and closes the database."""
        sys.setswitchinterval(_SWITCH_S)
        try:
            self._server.run([self._socket])
        finally:
            self.close()

    def close(self) -> None:
        """Writes what waits and closes the database."""
        if self._grpc is not None:
            self._grpc.stop(1.0).wait()
        self.receiver.executor.shutdown()
        self.writer.close()
        self.live.close()
        self.searches.close()
        self.store.close()

    def _stats(self) -> dict[str, Any]:
        return {"rows": self.store.rows(), "bytes": self.store.bytes, "behind": self.writer.behind}

    def _dropped(self) -> dict[str, int]:
        """What was received and is not kept: beyond the bounds, or lost by a disk that is full."""
        return {"bounds": self.store.dropped_rows, "not_written": self.writer.lost}

    def info(self) -> dict[str, Any]:
        """What /api/v1/info answers."""
        return {
            "version": version("otelkit"),
            "api": 1,
            "started_ms": round(self._started_s * 1e3),
            "now_ms": round(time.time() * 1e3),
            "otlp": {"http": self.url, "grpc": self.grpc_url},
            "database": str(self.store.path) if self.store.path else None,
            "sql": is_loopback(self.options.host),
            **self._stats(),
        }


class _PageFiles(StaticFiles):
    """The page's files, asked for again each time: modules of two versions must never meet in a browser's cache."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        """A file, or the word that it has not changed."""
        answer = super().file_response(*arguments, **options)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


async def page(request: Request) -> Response:
    """The page, whatever its view."""
    try:
        content = (STATIC / "index.html").read_bytes()
    except OSError:
        return Response("The page is not installed; the API is at /api/v1/info.", 404)
    return Response(content, media_type="text/html", headers={"Cache-Control": "no-cache"})


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
