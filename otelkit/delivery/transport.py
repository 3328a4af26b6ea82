"""Sends one encoded request to the next hop and says what became of it."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from otelkit.delivery.destination import Destination
from otelkit.delivery.wire import read_fields
from otelkit.versions import installed_version

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

LONGEST_ANSWER_BYTES = 4 * 1024 * 1024
_MOST_FIELDS = 32  # of a message in an answer, which has two: four MiB of nothing are two million, seconds of work


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop acknowledged the request, all but `rejected` of its records (partial_success)."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed in a way that may pass: unreachable, timed out, throttled."""

    cause: str
    after_s: float | None = None
    unreachable: bool = False
    """Nobody answered at the address at all."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It failed for good: the same request would be answered alike."""

    cause: str
    too_large: bool = False


Outcome = Delivered | Retry | Refused


class Transport(Protocol):
    """A way to the next hop; used by the sender thread alone."""

    def send(self, body: bytes, longest_s: float | None = None) -> Outcome:
        """Sends one request within its time-out, and within `longest_s`; never raises."""
        ...

    def close(self) -> None:
        """Lets go of connections."""
        ...


def import_transport(destination: Destination) -> None:
    """Imports everything that a destination's transport will use: in the sender thread, not at bootstrap, and not
    later.

    `encodings.idna` is imported by the resolver at the first name that it looks up, `email` by metadata and dates.
    """
    names = ["urllib3", "urllib3.util", "urllib.request", "email.utils", "email.message", "encodings.idna"]
    if destination.protocol == "grpc":
        names = ["grpc", "otelkit.delivery.grpc"]
    for name in names:
        # What is missing says so when the transport is opened.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def open_transport(destination: Destination) -> Transport:
    """The transport for a destination; `import_transport` was called before."""
    if destination.protocol == "grpc":
        from otelkit.delivery.grpc import GrpcTransport

        return GrpcTransport(destination)
    return HttpTransport(destination)


class HttpTransport:
    """OTLP over HTTP with protobuf bodies (https://opentelemetry.io/docs/specs/otlp/#otlphttp)."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._pool = _pool(destination)
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": f"OTel-OTLP-Exporter-Python-otelkit/{installed_version('otelkit') or 0}",
            **({"content-encoding": "gzip"} if destination.gzip else {}),
            **destination.headers,
        }

    def send(self, body: bytes, longest_s: float | None = None) -> Outcome:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        try:
            response = self._pool.request(
                "POST",
                self._destination.url,
                body=body,
                headers=self._headers,
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=Timeout(total=min(self._destination.timeout_s, longest_s or math.inf)),
            )
            try:
                answer = response.read(LONGEST_ANSWER_BYTES + 1, decode_content=True)
            finally:
                response.close() if response.length_remaining else response.release_conn()
        except (HTTPError, OSError) as error:
            # The type alone: urllib3 repeats the URL in its messages, with user, password and query.
            return Retry(_kind(error), unreachable=True)
        return _outcome(response, answer)

    def close(self) -> None:
        self._pool.clear()


def _pool(destination: Destination) -> PoolManager:
    from urllib.request import getproxies, proxy_bypass

    from urllib3 import PoolManager, ProxyManager, Timeout
    from urllib3.util import parse_url

    options: dict[str, object] = {
        "timeout": Timeout(total=destination.timeout_s),
        "maxsize": 1,
        "ca_certs": destination.certificate,
        "key_file": destination.client_key,
        "cert_file": destination.client_certificate,
    }
    options = {name: value for name, value in options.items() if value is not None}
    target = parse_url(destination.url)
    proxy = getproxies().get(target.scheme or "http")
    if proxy and not proxy_bypass(target.host or ""):
        return ProxyManager(proxy, **options)  # type: ignore[arg-type]
    return PoolManager(**options)  # type: ignore[arg-type]


def _outcome(response: BaseHTTPResponse, answer: bytes) -> Outcome:
    status = response.status
    if 200 <= status < 300:
        return partial_success(answer)
    if status in (429, 502, 503, 504):
        from otelkit.delivery.retry import retry_after_s

        return Retry(f"HTTP {status}", retry_after_s(response.headers.get("retry-after")))
    return Refused(f"HTTP {status}", too_large=status == 413)


def partial_success(answer: bytes) -> Delivered:
    """Reads an Export…ServiceResponse: field 1 is partial_success, in it 1 the rejected records and 2 the reason."""
    rejected, message = 0, ""
    try:
        for number, part in itertools.islice(read_fields(answer), _MOST_FIELDS):
            if number == 1 and isinstance(part, bytes):
                for inner, value in itertools.islice(read_fields(part), _MOST_FIELDS):
                    if inner == 1 and isinstance(value, int):
                        rejected = value if value < 1 << 63 else 0  # an int64: above it is negative, and nonsense
                    elif inner == 2 and isinstance(value, bytes):
                        message = value.decode("utf-8", "replace")
    except ValueError:
        return Delivered()
    return Delivered(rejected, message[:200])


def _kind(error: BaseException) -> str:
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError, SSLError

    if isinstance(error, NewConnectionError):
        return "connection refused or no such host"
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError)):
        return "no answer in time"
    if isinstance(error, SSLError):
        return "TLS handshake failed"
    return type(error).__name__
