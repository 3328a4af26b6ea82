"""HTTP GET for the stack's health and query endpoints."""

from __future__ import annotations

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from otelkit.errors import OtelkitError


class FetchError(OtelkitError, RuntimeError):
    """A server of the stack cannot be reached, or answers with something else than what was asked for."""


def fetch(url: str, *, timeout_s: float = 10.0) -> tuple[int, bytes]:
    """Return status and body of a GET; every HTTP status is an answer, also 404 and 503.

    Proxies of the environment are not used for loopback addresses.

    Raises:
        FetchError: no HTTP answer within `timeout_s`, for each connect and read.
    """
    handlers = [urllib.request.ProxyHandler({})] if _is_loopback(url) else []
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=timeout_s) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"GET {url}: {error}") from error


def fetch_json(url: str, *, timeout_s: float = 10.0) -> Any:
    """Return the decoded body of a GET that answers 200 with JSON.

    Raises:
        FetchError: no answer, another status (the message has the body's beginning), or no JSON.
    """
    status, body = fetch(url, timeout_s=timeout_s)
    if status != 200:
        raise FetchError(f"GET {url}: status {status}: {body[:500].decode(errors='replace').strip()}")
    try:
        return json.loads(body)
    except ValueError as error:
        raise FetchError(f"GET {url}: not JSON: {body[:500]!r}") from error


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
