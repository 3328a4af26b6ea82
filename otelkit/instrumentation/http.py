"""What HTTP servers have in common: known methods, routes, captured headers, request ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from random import getrandbits

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_SECRET_HEADERS = re.compile(
    r"authorization|cookie|token|secret|password|passwd|api[-_]?key|credential|session|signature",
    re.IGNORECASE,
)
REDACTED = "[REDACTED]"


def known_method(method: str) -> str:
    """The method, or `_OTHER`: made-up methods must not become labels (GHSA-5rv5-6h4r-h22v)."""
    return method if method in _METHODS else "_OTHER"


def server_of(host: str) -> dict[str, str | int]:
    """The attributes of a Host header."""
    address, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    found: dict[str, str | int] = {"server.address": address or host}
    if port.isdigit() and address:
        found["server.port"] = int(port)
    return found


def request_id(header: str | None) -> str:
    """The caller's request id if it is harmless (128 characters that need no quoting), else a new one."""
    if header is not None and _REQUEST_ID.fullmatch(header):
        return header
    return getrandbits(128).to_bytes(16, "big").hex()  # half the time of its format


def captured_headers(
    kind: str,
    headers: Iterable[tuple[bytes, bytes]],
    wanted: Sequence[re.Pattern[str]],
    secret: Sequence[re.Pattern[str]],
) -> dict[str, list[str]]:
    """The span attributes of the headers whose names match `wanted`; values of `secret` and of well-known ones are
    redacted.

    `kind` is `request` or `response`.
    """
    found: dict[str, list[str]] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if not any(pattern.fullmatch(name) for pattern in wanted):
            continue
        hidden = _SECRET_HEADERS.search(name) or any(pattern.fullmatch(name) for pattern in secret)
        value = REDACTED if hidden else raw_value.decode("latin-1")
        found.setdefault(f"http.{kind}.header.{name}", []).append(value)
    return found
