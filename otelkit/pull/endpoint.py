"""What the settings and `otelkit.metrics_app` ask for: the metrics of a scrape, and the port that they are served at.

What is served is what the group of this service's processes says (engine/sharing.py), whichever of them is asked.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from functools import lru_cache
from http.server import BaseHTTPRequestHandler
from importlib.util import find_spec
from socketserver import TCPServer, ThreadingTCPServer
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData

from otelkit.config.settings import Settings
from otelkit.errors import ConfigurationError
from otelkit.pull.answering import respond

if TYPE_CHECKING:
    from otelkit.engine.sharing import SharedMetrics
    from otelkit.pull.exposition import Collect, Exposition

logger = logging.getLogger("otelkit.pull")

View = Callable[["MetricsData | None"], "MetricsData | None"]
"""From what this process collects to what is answered."""

_CLOSE_S = 1.0
_READ_S = 10.0
_NEEDED = ("prometheus_client", "opentelemetry.exporter.prometheus")


class PullEndpoint:
    """Answers at `http://host:port/metrics`, until `close`; each answer collects anew.

    Raises OSError where the address cannot be listened on.
    """

    def __init__(self, exposition: Exposition, token: str | None, host: str, port: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _READ_S

            def do_GET(self) -> None:
                found = {name.lower(): value for name, value in self.headers.items()}
                answer = respond(exposition, token, self.command, self.client_address[0], found)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

            def log_message(self, format: str, *args: object) -> None:
                """A scrape every few seconds is no line of the application's."""

        # The first address that the name has; an IPv6 one is one of another family.
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]

        class Server(ThreadingTCPServer):
            address_family = family
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away."""

        self._pid = os.getpid()
        self._server: TCPServer = Server((str(address[0]), port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="otelkit-pull", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops answering and frees the port; in a forked child it only lets go of the inherited socket."""
        if os.getpid() == self._pid:
            self._server.shutdown()
            self._thread.join(_CLOSE_S)
        self._server.server_close()


class Pull:
    """The reader of what is pulled, and the endpoint that the settings ask for.

    Of a service's many processes one has the port and answers for all; the others try again and again, so that one of
    them takes its place.

    Where a package is missing, one WARNING says so and nothing is served; under OTELKIT_STRICT it is a
    ConfigurationError.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._endpoint: PullEndpoint | None = None
        self._listens = "prometheus" in settings.exporters("metrics")
        installed = _installed(settings, "OTEL_METRICS_EXPORTER=prometheus" if self._listens else "otelkit.metrics_app")
        self._over = not installed
        self._reader = InMemoryMetricReader()
        self.readers = (self._reader,) if installed else ()
        self.exposition = _exposition(self._collect) if installed else None
        self._view: View = _own

    def share(self, shared: SharedMetrics) -> None:
        """Answers with what all processes of the group say."""
        self._view = shared.view
        if self.exposition is not None:
            from otelkit.pull import registry

            shared.beside = registry.measured

    def serve(self, *, alone: bool) -> None:
        """Listens where the settings say so, if this process does not yet; `alone`: that another process does is an
        error.
        """
        if self._endpoint is not None or self._over or not self._listens or self.exposition is None:
            return
        settings = self._settings
        host, port = settings.prometheus_host, settings.prometheus_port
        try:
            self._endpoint = PullEndpoint(self.exposition, settings.metrics_token, host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and not alone:
                return
            self._over = True
            logger.error("%s; /metrics is not served", _refusal(error, host, port))

    def _collect(self) -> MetricsData | None:
        return self._view(self._reader.get_metrics_data())

    def close(self) -> None:
        """Stops answering."""
        self._over = True
        if self._endpoint is not None:
            self._endpoint.close()

    def in_child(self) -> Pull:
        """In a forked child: lets go of the parent's socket; the child tries for itself."""
        self.close()
        return Pull(self._settings)


def _exposition(collect: Collect) -> Exposition:
    from otelkit.pull.exposition import Exposition  # imports what `_installed` has looked for

    return Exposition(collect)


@lru_cache(maxsize=1)
def without_metrics() -> Exposition | None:
    """Where telemetry has not started, or has ended: what the application's own registry holds. None where a package is
    missing.
    """
    return _exposition(lambda: None) if all(map(_importable, _NEEDED)) else None


def _own(data: MetricsData | None) -> MetricsData | None:
    return data


def _installed(settings: Settings, who: str) -> bool:
    missing = [name for name in _NEEDED if not _importable(name)]
    if not missing:
        return True
    message = f"{who} needs a package that is not installed ({missing[0]}); pip install 'otelkit[prometheus]'"
    if settings.strict:
        raise ConfigurationError(message)
    logger.warning("%s; /metrics is not served", message)
    return False


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # its package is not there
        return False


def _refusal(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"OTEL_EXPORTER_PROMETHEUS_PORT={port}: another process, of another service, listens on {host}:{port};"
            " set OTEL_EXPORTER_PROMETHEUS_PORT to a free port"
        )
    return (
        f"OTEL_EXPORTER_PROMETHEUS_HOST={host!r} with OTEL_EXPORTER_PROMETHEUS_PORT={port} cannot be listened on"
        f" ({error.strerror or error}); set an address of this machine and a port that this user may take"
    )
