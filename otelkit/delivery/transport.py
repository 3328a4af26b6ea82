"""Sends one encoded request to the next hop and says what became of it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import logging
import math
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from otelkit.delivery.compression import compressed, compression_of, decompressed
from otelkit.delivery.destination import Destination
from otelkit.delivery.headers import Headers
from otelkit.delivery.wire import read_fields
from otelkit.versions import installed_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import BaseHTTPResponse, PoolManager

logger = logging.getLogger("otelkit.delivery")

LONGEST_ANSWER_BYTES = 4 * 1024 * 1024
_MOST_FIELDS = 32  # of a message in an answer, which has two: four MiB of nothing are two million, seconds of work
_GRACE_S = 0.5
_NOT_THIS_ENCODING = ("HTTP 400", "HTTP 415")
"""What servers say to a content encoding that they do not know (RFC 9110, 15.5.16; the collector says 400)."""
_OF_THE_REQUEST = frozenset((400, 413, 422))
"""The statuses that refuse one request for what is in it."""


class Delivered(NamedTuple):
    """The next hop acknowledged the request, all but `rejected` of its records (partial_success)."""

    rejected: int = 0
    message: str = ""


class Retry(NamedTuple):
    """It failed in a way that may pass: unreachable, timed out, throttled."""

    cause: str
    after_s: float | None = None
    unreachable: bool = False
    """Nobody answered at the address at all."""


class Refused(NamedTuple):
    """It failed for good: the same request would be answered alike, and `anything` else too, until somebody mends the
    credentials or the address.
    """

    cause: str
    too_large: bool = False
    anything: bool = False


Outcome = Delivered | Retry | Refused


class Transport(Protocol):
    """A way to the next hop; used by the sender thread alone."""

    def send(self, body: bytes, longest_s: float | None = None) -> Outcome:
        """Sends one request within its time-out, and within `longest_s`; never raises."""
        ...

    def hurry(self) -> None:
        """Breaks off a request that has had its time, where nothing else does; called by another thread."""
        ...

    def close(self) -> None:
        """Lets go of connections."""
        ...


def import_transport(destination: Destination) -> None:
    """Imports everything that a destination's transport will use: in the sender thread, not at bootstrap, and not
    later.

    `encodings.idna` is imported by the resolver at the first name that it looks up, `email` by metadata and dates.
    """
    names = [
        "otelkit.delivery.connections",
        "urllib3.util",
        "urllib.request",
        "email.utils",
        "email.message",
        "encodings.idna",
    ]
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
        from otelkit.delivery.connections import breakable

        self._pool = _pool(destination)
        self._break_off = breakable(self._pool)
        self._request = _request(self._pool, destination.url)
        self._give_up_at = math.inf
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": f"OTel-OTLP-Exporter-Python-otelkit/{installed_version('otelkit') or 0}",
        }
        self._own = Headers(destination.headers, destination.headers_file)
        self._zstd: Literal["unknown", "taken", "refused"] = "unknown"

    def send(self, body: bytes, longest_s: float | None = None) -> Outcome:
        if self._zstd == "refused":
            body = _as_gzip(body)
        outcome = self._post(body, longest_s)
        if self._zstd == "unknown" and compression_of(body) == "zstd":
            if isinstance(outcome, Refused) and outcome.cause in _NOT_THIS_ENCODING:
                outcome = self._post(_as_gzip(body), longest_s)
                if isinstance(outcome, Delivered):
                    self._zstd = "refused"
                    logger.warning("%s does not take zstd; it is sent gzip", self._destination.shown)
            elif isinstance(outcome, Delivered):
                self._zstd = "taken"
        return outcome

    def _post(self, body: bytes, longest_s: float | None) -> Outcome:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        compression = compression_of(body)
        encoding = {"content-encoding": compression} if compression != "none" else {}
        timeout_s = min(self._destination.timeout_s, longest_s or math.inf)
        self._give_up_at = time.monotonic() + timeout_s + _GRACE_S
        try:
            response = self._request(
                body=body,
                headers={**self._headers, **encoding, **self._own.current()},
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=Timeout(total=timeout_s),
            )
            try:
                answer = response.read(LONGEST_ANSWER_BYTES + 1, decode_content=True)
            finally:
                response.close() if response.length_remaining else response.release_conn()
        except (HTTPError, OSError) as error:
            # The type alone: urllib3 repeats the URL in its messages, with user, password and query.
            return Retry(_kind(error), unreachable=True)
        finally:
            self._give_up_at = math.inf
        return _outcome(response, answer)

    def hurry(self) -> None:
        """Breaks off a request that has had its time."""
        if time.monotonic() > self._give_up_at:
            self._break_off()

    def close(self) -> None:
        self._pool.clear()


def _as_gzip(body: bytes) -> bytes:
    return compressed(decompressed(body)) if compression_of(body) == "zstd" else body


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


def _request(pool: PoolManager, url: str) -> Callable[..., BaseHTTPResponse]:
    """What sends one POST there. The manager would parse the URL and look for the host's pool again each time, which
    takes a quarter of a request. A proxy that is asked for plain HTTP wants the whole URL: that is the manager's part.
    """
    from urllib3.util import parse_url

    target = parse_url(url)
    if pool.proxy is not None and target.scheme == "http":
        return functools.partial(pool.urlopen, "POST", url)
    return functools.partial(pool.connection_from_url(url).urlopen, "POST", target.request_uri)


def _outcome(response: BaseHTTPResponse, answer: bytes) -> Outcome:
    status = response.status
    if 200 <= status < 300:
        return partial_success(answer)
    if status in (429, 502, 503, 504):
        from otelkit.delivery.retry import retry_after_s

        return Retry(f"HTTP {status}", retry_after_s(response.headers.get("retry-after")))
    return Refused(f"HTTP {status}", too_large=status == 413, anything=status not in _OF_THE_REQUEST)


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
