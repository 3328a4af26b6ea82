"""Serves /metrics for a Prometheus server that pulls: what `OTEL_METRICS_EXPORTER=prometheus` asks for.

Whatever is served comes out of one function, `Collect`, so that a source that knows of other processes' metrics can
take the place of this process's reader.
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


def open_endpoint(settings: Settings) -> tuple[InMemoryMetricReader, PullEndpoint] | None:
    """The endpoint that the settings ask for, with the reader that feeds it.

    Where it cannot be, one log record says why and what helps, and the application goes on without: None. Raises
    ConfigurationError instead under OTELKIT_STRICT where the package is missing.
    """
    reader = InMemoryMetricReader()
    host, port = settings.prometheus_host, settings.prometheus_port
    try:
        return reader, PullEndpoint(reader.get_metrics_data, host, port)
    except ImportError as error:
        message = (
            f"OTEL_METRICS_EXPORTER=prometheus needs a package that is not installed ({error.name});"
            " pip install 'otelkit[prometheus]'"
        )
        if settings.strict:
            raise ConfigurationError(message) from None
        logger.warning("%s; /metrics is not served", message)
    except OSError as error:
        logger.error("%s; /metrics is not served", _refusal(error, host, port))
    return None


def _refusal(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"OTEL_EXPORTER_PROMETHEUS_PORT={port}: another process listens on {host}:{port} (a second worker of this"
            " service, perhaps); set OTEL_EXPORTER_PROMETHEUS_PORT to a free port"
        )
    return (
        f"OTEL_EXPORTER_PROMETHEUS_HOST={host!r} with OTEL_EXPORTER_PROMETHEUS_PORT={port} cannot be listened on"
        f" ({error.strerror or error}); set an address of this machine and a port that this user may take"
    )
