"""Who calls: of a caller that is not trusted neither the trace nor the decision to record it is taken over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from otelkit.instrumentation.routes import Scope

_PRIVATE = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)
_LISTS = (b"x-forwarded-for", b"x-real-ip")
_FORWARDED = re.compile(r'for="?([^";,]+)', re.IGNORECASE)
_PORT = re.compile(r"^\[(.*)\](?::\d+)?$|^([\d.]+):\d+$")
_KEPT = 1024


class Callers:
    """The trusted ones, by the words of OTELKIT_TRUSTED_CALLERS."""

    def __init__(self, words: Iterable[str]) -> None:
        words = tuple(words)
        self._everyone = "*" in words
        self._local = "private" in words
        networks = [word for word in words if word not in ("*", "private", "none")]
        self._networks = [ip_network(word) for word in (*networks, *(_PRIVATE if self._local else ()))]
        self._known: dict[str, bool] = {}

    def trusts(self, scope: Scope) -> bool:
        """Whether the client is trusted, and everybody for whom proxies on the way say to have forwarded.

        What a client writes into those headers itself can only cost it the trust. A client without an address is on
        this machine: at a Unix socket, or within the process.
        """
        if self._everyone:
            return True
        client = scope.get("client")
        address = _address(client[0]) if client else None
        if not (self._local if address is None else self._has(address)):
            return False
        return all(self._is_trusted(found) for found in _forwarded_for(scope))

    def _is_trusted(self, text: str) -> bool:
        known = self._known.get(text)
        if known is None:
            address = _address(text)
            known = address is not None and self._has(address)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[text] = known
        return known

    def _has(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, without the port that some write behind it; None for what is none."""
    match = _PORT.match(text)
    try:
        found = ip_address((match[1] or match[2]) if match else text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _forwarded_for(scope: Scope) -> Iterator[str]:
    for name, value in scope["headers"]:
        if name in _LISTS:
            yield from (part.strip() for part in value.decode("latin-1").split(","))
        elif name == b"forwarded":
            yield from (part.strip() for part in _FORWARDED.findall(value.decode("latin-1")))
