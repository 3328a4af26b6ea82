"""The messages of one websocket connection, counted."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from otelkit.instrumentation.routes import template

if TYPE_CHECKING:
    from otelkit.engine import door
    from otelkit.instrumentation.request import Message, Receive, Request, Send


class Messages:
    """Stands between a connection and its application; both directions count from the first message on."""

    __slots__ = ("_receive", "_received", "_request", "_send", "_sent", "received", "sent")

    def __init__(self, request: Request, receive: Receive, send: Send) -> None:
        self._request = request
        self._receive = receive
        self._send = send
        self._received: door.Adds | None = None
        self._sent: door.Adds | None = None
        self.received = self.sent = 0

    async def receive(self) -> Message:
        """Takes the connection's next message."""
        message = await self._receive()
        if message["type"] == "websocket.receive":
            self.received += 1
            if self._received is None:
                self._received = self._series("receive")
            self._received.add(1, self._request.span)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Passes the application's next message on."""
        if message["type"] == "websocket.send":
            self.sent += 1
            if self._sent is None:
                self._sent = self._series("transmit")
            self._sent.add(1, self._request.span)
        return self._send(message)

    def attributes(self) -> dict[str, Any]:
        """What the connection's span says of them at its end."""
        return {"websocket.messages.received": self.received, "websocket.messages.sent": self.sent}

    def _series(self, direction: str) -> door.Adds:
        return self._request.layer.messages(template(self._request.scope), direction)
