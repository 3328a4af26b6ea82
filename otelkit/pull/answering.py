"""How one request for /metrics is answered: who may see them, in which format, compressed or not.

Metrics tell of a business. Whoever has the token of OTELKIT_METRICS_TOKEN may see them; where none is set, this machine
alone.
"""

from __future__ import annotations

import gzip
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelkit.runtime import guard

if TYPE_CHECKING:
    from otelkit.pull.exposition import Exposition

_TEXT = "text/plain; charset=utf-8"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
_BEYOND = (
    "Without OTELKIT_METRICS_TOKEN metrics are for this machine alone. Set it, and have Prometheus send it:"
    " authorization: {credentials: ...}\n"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def respond(
    exposition: Exposition | None, token: str | None, method: str, client: str | None, headers: Mapping[str, str]
) -> Answer:
    """The answer to a request; `client` is the address that it came from, the names of `headers` are lower-case.

    Never raises: what fails is a 500, counted as a failure of telemetry's.
    """
    if method not in ("GET", "HEAD"):
        return _text(405, "GET or HEAD\n", {"allow": "GET, HEAD"})
    if token is not None and not _knows(token, headers.get("authorization", "")):
        return _text(401, "The token of OTELKIT_METRICS_TOKEN is missing or wrong.\n", {"www-authenticate": "Bearer"})
    if token is None and not _is_local(client, headers):
        return _text(403, _BEYOND)
    if exposition is None:
        return _text(503, "A package is not installed: pip install 'otelkit[prometheus]'\n")
    body = None
    with guard.guarded("the answer to a Prometheus server"):
        content_type, body = exposition.text(headers.get("accept", ""))
    if body is None:
        return _text(500, "The metrics could not be collected.\n")
    sent = {"content-type": content_type, "vary": "accept, accept-encoding"}
    if "gzip" in headers.get("accept-encoding", "").lower():
        body, sent["content-encoding"] = gzip.compress(body, 1), "gzip"
    sent["content-length"] = str(len(body))
    return Answer(200, sent, b"" if method == "HEAD" else body)


def _knows(token: str, authorization: str) -> bool:
    scheme, _, said = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(said.strip().encode(), token.encode())


def _is_local(client: str | None, headers: Mapping[str, str]) -> bool:
    """Whether a request came from this machine, and not through a proxy on it."""
    if any(name in headers for name in _FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(client or "")
    except ValueError:  # a socket of a proxy's, most likely
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _text(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    body = text.encode()
    return Answer(status, {"content-type": _TEXT, "content-length": str(len(body)), **(headers or {})}, body)
