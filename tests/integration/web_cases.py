"""What `test_web_nouns.py` asks for: applications, what a client does with them, and what is to be recorded."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

SECRET = "s3cr3t"
SERVER, INTERNAL = 2, 1
OK, ERROR = 0, 2
Labels = Mapping[str, Any]


@dataclass(frozen=True)
class Expected:
    """A span: its name, the name of its parent ("" for a root), and what it has; `lacks` are absent attributes."""

    name: str
    under: str = ""
    kind: int = SERVER
    status: int = OK
    has: Mapping[str, Any] = field(default_factory=dict)
    lacks: tuple[str, ...] = ("error.type",)


@dataclass(frozen=True)
class Case:
    """One way of use: the application, what a client does at its URL, all spans, and each measured series."""

    noun: str
    app: Callable[[], Any]
    ask: Callable[[str], object]
    spans: tuple[Expected, ...]
    measured: tuple[Labels, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    exceptions: tuple[str, ...] = ()
    """The types of the exceptions' records."""
    metrics: Mapping[str, Mapping[tuple[tuple[str, Any], ...], float]] = field(default_factory=dict)
    """Other metrics: the values of their series."""
    served: Mapping[str, Any] = field(default_factory=dict)
    """Options of uvicorn."""
    at_the_end: int = 0
    """How many of the spans come when the server is stopped."""
    before: bool = False
    """Whether the application is made before telemetry starts."""


def server(name: str, answer: int | None, *, route: str | None = None, **more: Any) -> Expected:
    """A request's span; its route is that of its name."""
    has = dict(more.pop("has", {}))
    lacks = {"error.type", *more.pop("lacks", ())} - has.keys()
    route = route if route is not None else name.partition(" ")[2] or None
    if answer is not None:
        has["http.response.status_code"] = answer
    if route is None:
        lacks.add("http.route")
    else:
        has["http.route"] = route
    return Expected(name, has=has, lacks=tuple(lacks), **more)


def inner(name: str, under: str, **more: Any) -> Expected:
    """A span of the application's own."""
    return Expected(name, under, INTERNAL, **more)


def labels(method: str, route: str | None, status: int | None, **more: Any) -> Labels:
    """The labels of a request's measurement, all of them."""
    found = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return {key: value for key, value in found.items() if value is not None}


# -- clients


def ask(
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    status: int = 200,
    *,
    recorded: bool = True,
) -> Callable[[str], None]:
    """One request that is to be answered with a status and, where it is recorded, with its id."""

    def asking(url: str) -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            read = answer.read()
            assert answer.status == status, (answer.status, read)
            assert (answer.getheader("x-request-id") is not None) == recorded
        finally:
            connection.close()

    return asking


def all_of(*asks: Callable[[str], object]) -> Callable[[str], object]:
    """One after the other."""
    return lambda url: [each(url) for each in asks]


def break_off(path: str, after: bytes, head: bytes = b"") -> Callable[[str], None]:
    """A client that goes away when it has seen something."""

    def asking(url: str) -> None:
        parts = urlsplit(url)
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) as connection:
            connection.sendall(b"%s HTTP/1.1\r\nHost: shop\r\n%s\r\n" % (path.encode(), head))
            seen = b""
            while after not in seen:
                seen += connection.recv(65536)

    return asking


def talk(path: str, *texts: str) -> Callable[[str], None]:
    """A websocket client: each text is answered."""

    def asking(url: str) -> None:
        from websockets.sync.client import connect

        with connect(url.replace("http", "ws", 1) + path) as client:
            for text in texts:
                client.send(text)
                assert client.recv() == text

    return asking


def leave(path: str, text: str) -> Callable[[str], None]:
    """A websocket client that says something, hears something and goes."""

    def asking(url: str) -> None:
        from websockets.sync.client import connect

        with connect(url.replace("http", "ws", 1) + path) as client:
            client.send(text)
            client.recv()

    return asking


def refused(path: str, status: int = 403, *, answered: bool = False) -> Callable[[str], None]:
    """A websocket client that is not let in, with the request's id where the application answers."""

    def asking(url: str) -> None:
        from websockets.exceptions import InvalidStatus
        from websockets.sync.client import connect

        with pytest.raises(InvalidStatus, match=str(status)) as raised:
            connect(url.replace("http", "ws", 1) + path)
        assert ("x-request-id" in raised.value.response.headers) == answered

    return asking
