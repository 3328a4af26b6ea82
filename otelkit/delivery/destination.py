"""Where a signal goes: the next hop's address and the credentials, resolved from the OTLP settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, cast
from urllib.parse import urlsplit, urlunsplit

from otelkit.config.settings import Settings, Signal
from otelkit.delivery.compression import Compression


class Destination(NamedTuple):
    """Everything a transport needs to reach the next hop with one signal; times in seconds."""

    signal: Signal
    protocol: Literal["http/protobuf", "grpc"]
    url: str
    headers: Mapping[str, str]
    compression: Compression
    timeout_s: float
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None
    headers_file: str | None = None
    by_default: bool = False
    """Nobody named it: the default address of a local collector."""

    @property
    def body_compression(self) -> Compression:
        """How bodies are compressed before they are sent; over gRPC that is the channel's part."""
        return "none" if self.protocol == "grpc" else self.compression

    @property
    def hop(self) -> str:
        """Scheme, host and port: what is up or down as one."""
        parts = urlsplit(self.shown)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def shown(self) -> str:
        """The address as it may be printed: without user, password, query and fragment, which may hold secrets."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return urlunsplit((parts.scheme, f"[{host}]{port}" if ":" in host else f"{host}{port}", parts.path, "", ""))


def destination(settings: Settings, signal: Signal) -> Destination:
    """The next hop of a signal, as https://opentelemetry.io/docs/specs/otel/protocol/exporter/ describes it.

    Over HTTP `/v1/<signal>` is added to the general endpoint; a signal's own endpoint is used as it is.
    """
    protocol = cast("Literal['http/protobuf', 'grpc']", settings.otlp(signal, "PROTOCOL"))
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    if settings.is_set(own):
        url = cast("str", settings[own])
    else:
        port = 4317 if protocol == "grpc" else 4318
        url = settings.otlp_endpoint or f"http://localhost:{port}"
        if protocol == "http/protobuf":
            parts = urlsplit(url)
            url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/v1/{signal}"))
    if url.startswith("//"):
        plain = protocol == "http/protobuf" or settings.otlp(signal, "INSECURE")
        url = f"{'http' if plain else 'https'}:{url}"
    return Destination(
        signal=signal,
        protocol=protocol,
        url=url,
        headers=cast("Mapping[str, str]", settings.otlp(signal, "HEADERS")),
        headers_file=settings.otlp_headers_file,
        compression=cast("Compression", settings.otlp(signal, "COMPRESSION")),
        timeout_s=cast("float", settings.otlp(signal, "TIMEOUT")),
        certificate=cast("str | None", settings.otlp(signal, "CERTIFICATE")),
        client_key=cast("str | None", settings.otlp(signal, "CLIENT_KEY")),
        client_certificate=cast("str | None", settings.otlp(signal, "CLIENT_CERTIFICATE")),
        by_default=not settings.is_set(own) and not settings.is_set("OTEL_EXPORTER_OTLP_ENDPOINT"),
    )
