"""Asks a running viewer over HTTP: for the commands that read from it or send to it. Needs no extra."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, cast

URL = "http://127.0.0.1:4318"
_TIMEOUT_S = 60.0


class NoAnswer(Exception):
    """The viewer is not there, or does not answer what was asked."""


class Client:
    """A viewer at a URL."""

    def __init__(self, url: str = URL, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, question: str, **parameters: Any) -> Any:
        """An answer of the query API.

        Raises NoAnswer.
        """
        with self._open(f"/api/v1/{question}", parameters) as answer:
            return json.load(answer)

    def lines(self, question: str, **parameters: Any) -> Iterator[str]:
        """The lines of an answer, as they come.

        Raises NoAnswer.
        """
        with self._open(f"/api/v1/{question}", parameters) as answer:
            for line in answer:
                yield line.decode("utf-8", "replace").rstrip("\n")

    def events(self, **parameters: Any) -> Iterator[tuple[str, Any]]:
        """What is new, as it comes, without end.

        Raises NoAnswer.
        """
        name = ""
        for line in self.lines("live", **parameters):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))

    def post(self, signal: str, body: bytes) -> None:
        """Sends an OTLP/JSON request.

        Raises NoAnswer.
        """
        with self._open(f"/v1/{signal}", {}, body):
            return

    def _open(self, path: str, parameters: dict[str, Any], body: bytes | None = None) -> Any:
        asked = {key.rstrip("_"): value for key, value in parameters.items() if value not in (None, "")}
        url = f"{self._url}{path}{'?' if asked else ''}{urllib.parse.urlencode(asked)}"
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        try:
            request = urllib.request.Request(url, body, headers)
            return cast(Any, urllib.request.urlopen(request, timeout=_TIMEOUT_S))
        except urllib.error.HTTPError as error:
            with error:
                raise NoAnswer(_message(error)) from None
        except (OSError, ValueError) as error:
            raise NoAnswer(f"no viewer answers at {self._url} ({error}); start one: otelkit ui") from None


def _message(error: urllib.error.HTTPError) -> str:
    try:
        content = json.loads(error.read())
        return str(content["error"]["message"] if "error" in content else content["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"the viewer answered {error.code}"
