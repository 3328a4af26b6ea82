"""What every request must pass: the Host header, the token beyond loopback, the Origin; and what every answer carries.

A page of somebody else's, open in the same browser, must neither read nor post anything: its name that resolves to
127.0.0.1 is refused by the Host header, its requests by their Origin.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "otelkit_token"
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self';"
    " object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_OTLP = "/v1/"


class Guarded:
    """The application behind the checks.

    `hosts` are names that this server may be called by beside loopback's and IP addresses; `token` is what must be
    said, in `Authorization: Bearer` or the cookie that `/?token=` sets; `origins` may send telemetry from browsers.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Sequence[str] = (), token: str | None = None, origins: Sequence[str] = ()
    ) -> None:
        self._app = app
        self._hosts = frozenset(("localhost", *(host.lower() for host in hosts)))
        self._token = token
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        origin = headers.get("origin", "").rstrip("/").lower()
        telemetry = scope["path"].startswith(_OTLP)
        allowed = origin if telemetry and origin in self._origins else None

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer[name] = value
                if allowed:
                    answer["Access-Control-Allow-Origin"] = headers["origin"]
                    answer["Vary"] = "Origin"
            await send(message)

        if not self._knows(host):
            await _answer(guarded, 421, f"this server is not {host[:100]!r}: use localhost or an IP address")
        elif origin and not allowed and origin not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            await _answer(guarded, 403, f"pages of {origin[:100]} may not use this server (--cors-origin)")
        elif allowed and scope["method"] == "OPTIONS":
            await _preflight(guarded)
        elif not self._may(scope, headers):
            await self._ask(scope, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # no name that somebody could have made resolve to here

    def _may(self, scope: Scope, headers: Headers) -> bool:
        if self._token is None:
            return True
        kind, _, said = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is(said.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._is(cookie.value)

    def _is(self, said: str) -> bool:
        return self._token is not None and hmac.compare_digest(said.encode(), self._token.encode())

    async def _ask(self, scope: Scope, send: Send) -> None:
        """Takes the token of `/?token=…`, which goes into a cookie and out of the address; refuses everything else."""
        said = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and not scope["path"].startswith(("/api/", _OTLP)) and self._is(said):
            cookie = f"{COOKIE}={said}; HttpOnly; SameSite=Strict; Path=/"
            await _answer(send, 303, "", {"Location": scope["path"], "Set-Cookie": cookie})
        else:
            await _answer(send, 401, "this server wants its token", {"WWW-Authenticate": "Bearer"})


async def _preflight(send: Send) -> None:
    await _answer(
        send,
        204,
        "",
        {
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "content-type, content-encoding, authorization",
            "Access-Control-Max-Age": "600",
        },
    )


async def _answer(send: Send, status: int, message: str, more: dict[str, str] | None = None) -> None:
    content = json.dumps({"error": {"message": message}}).encode() if message else b""
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(more or {})}
    if status == 204:
        del headers["Content-Length"], headers["Content-Type"]
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})
