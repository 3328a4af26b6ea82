"""What contrib's instrumentations of HTTP clients are told: a URL keeps the names of its parameters and no values."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.trace import Span

from otelkit.runtime import guard
from otelkit.signals.urls import safe_query


def options(name: str) -> dict[str, Any]:
    """The arguments of an instrumentor's `instrument`; none for what is no HTTP client."""
    if name in ("httpx", "httpx2"):
        return {"request_hook": _request, "async_request_hook": _request_async}
    if name == "requests":
        return {"request_hook": _request}
    if name in ("aiohttp-client", "urllib3"):
        return {"url_filter": _filtered}
    return {}


def safe_url(url: Any) -> str:
    """A URL without user, password and fragment, and without its parameters' values."""
    parts = urlsplit(str(url))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, safe_query(parts.query), ""))


@guard.guard("the URL of an HTTP client's span")
def _request(span: Span, request: Any) -> None:
    if span.is_recording():
        span.set_attribute("url.full", safe_url(request.url))


async def _request_async(span: Span, request: Any) -> None:
    _request(span, request)


def _filtered(url: Any) -> str:
    with guard.guarded("the URL of an HTTP client's span"):
        return safe_url(url)
    return ""
