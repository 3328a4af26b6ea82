"""Serves /metrics for a Prometheus server that pulls: what `OTEL_METRICS_EXPORTER=prometheus` asks for.

What is served is what the group of this service's processes says (engine/sharing.py), whichever of them is asked.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from otelkit.config.settings import Settings
from otelkit.engine.seams import ForklessMeterProvider
from otelkit.errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

logger = logging.getLogger("otelkit.pull")

Collect = Callable[[], MetricsData | None]
"""All metrics as they are now; None where there are none."""
View = Callable[[MetricsData | None], MetricsData | None]
"""From what this process collects to what is answered."""

_CLOSE_S = 1.0


class PullEndpoint:
    """Answers at `http://host:port/metrics`, until `close`; each answer collects anew.

    Raises ImportError where the package that translates metrics for Prometheus is missing, OSError where the address
    cannot be listened on.
    """

    def __init__(self, collect: Collect, host: str, port: int) -> None:
        from prometheus_client import start_http_server

        self._pid = os.getpid()
        self._server, self._thread = start_http_server(port, host, _exposition(collect))
        self._thread.name = "otelkit-pull"

    def close(self) -> None:
        """Stops answering and frees the port; in a forked child it only lets go of the inherited socket."""
        if os.getpid() == self._pid:
            self._server.shutdown()
            self._thread.join(_CLOSE_S)
        self._server.server_close()


def _exposition(collect: Collect) -> CollectorRegistry:
    """A registry whose families are what `collect` gives, without labels for the scope."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import CollectorRegistry

    class Translation(PrometheusMetricReader):
        """Translates what it is fed; of its own provider, which has no instruments, it collects nothing."""

        def feed(self, data: MetricsData) -> None:
            self._receive_metrics(data)

    class Source:
        """What a scrape asks. One at a time: the translation would mix two up."""

        def __init__(self) -> None:
            self._lock = Lock()
            self._families = CollectorRegistry()
            self._translation = Translation(scope_info_enabled=False, registry=self._families)
            self._provider = ForklessMeterProvider(
                [self._translation], resource=Resource.get_empty(), shutdown_on_exit=False
            )

        def collect(self) -> list[Any]:
            with self._lock:
                data = collect()
                if data is None:
                    return []
                self._translation.feed(data)
                return list(self._families.collect())

    registry = CollectorRegistry()
    registry.register(Source())
    return registry


class Pull:
    """The endpoint that the settings ask for, and the reader that feeds it.

    Of a service's many processes one has the port and answers for all; the others try again and again, so that one of
    them takes its place. `view` makes the answer for all of what this process collects.

    Where the package is missing, one WARNING says so and nothing is served; under OTELKIT_STRICT it is a
    ConfigurationError.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._endpoint: PullEndpoint | None = None
        self._over = not _installed(strict=settings.strict)
        self._reader = InMemoryMetricReader()
        self.readers = () if self._over else (self._reader,)
        self.view: View = _own

    def serve(self, *, alone: bool) -> None:
        """Listens, if this process does not yet; `alone`: that another process does is an error."""
        if self._endpoint is not None or self._over:
            return
        host, port = self._settings.prometheus_host, self._settings.prometheus_port
        try:
            self._endpoint = PullEndpoint(self._collect, host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and not alone:
                return
            self._over = True
            logger.error("%s; /metrics is not served", _refusal(error, host, port))

    def _collect(self) -> MetricsData | None:
        return self.view(self._reader.get_metrics_data())

    def close(self) -> None:
        """Stops answering."""
        self._over = True
        if self._endpoint is not None:
            self._endpoint.close()

    def in_child(self) -> Pull:
        """In a forked child: lets go of the parent's socket; the child tries for itself."""
        self.close()
        return Pull(self._settings)


def _own(data: MetricsData | None) -> MetricsData | None:
    return data


def _installed(*, strict: bool) -> bool:
    try:
        import opentelemetry.exporter.prometheus  # noqa: F401
        import prometheus_client  # noqa: F401
    except ImportError as error:
        message = (
            f"OTEL_METRICS_EXPORTER=prometheus needs a package that is not installed ({error.name});"
            " pip install 'otelkit[prometheus]'"
        )
        if strict:
            raise ConfigurationError(message) from None
        logger.warning("%s; /metrics is not served", message)
        return False
    return True


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
