"""What a span's columns and the service map take from its attributes, worked out once for those that repeat."""

from __future__ import annotations

from typing import Any, NamedTuple

from otelkit.viewer.envelope import MOST_NS
from otelkit.viewer.values import Promoted

_ROUTE, _HTTP_STATUS, _OLD_HTTP_STATUS = "http.route", "http.response.status_code", "http.status_code"
_DB, _OLD_DB = "db.system.name", "db.system"
_STATEMENT, _OLD_STATEMENT, _OPERATION = "db.query.text", "db.statement", "db.query.summary"
_REPEATED = "otelkit.db.n_plus_one.count"
_PEER, _ADDRESS, _OLD_ADDRESS = "peer.service", "server.address", "net.peer.name"
_QUEUE, _MESSAGING = "messaging.destination.name", "messaging.system"
PROMOTED = frozenset((
    _ROUTE, _HTTP_STATUS, _OLD_HTTP_STATUS, _DB, _OLD_DB, _STATEMENT, _OLD_STATEMENT, _OPERATION, _REPEATED,
    _PEER, _ADDRESS, _OLD_ADDRESS, _QUEUE, _MESSAGING,
))  # fmt: skip
LONGEST_STATEMENT = 4_000  # characters, of the roll-ups' key; the attribute stays whole
_MOST_KEPT = 4_000
_LONGEST_KEPT = 2_048  # characters


class Facts(NamedTuple):
    """Of one span; `statement` is None where its name is to be taken."""

    route: str | None
    http_status: int | None
    db_system: str | None
    statement: str | None
    repeated: int | None
    called: str
    """Whom a client that asked no database has called."""
    queue: str | None


class KnownFacts(dict[tuple[Promoted, ...], Facts]):
    """The facts by the promoted attributes, in the order in which they were sent. Bounded; threads may share it."""

    def __missing__(self, promoted: tuple[Promoted, ...]) -> Facts:
        """Works them out."""
        facts = _facts({each.key: each.value for each in promoted})
        if sum(map(len, promoted)) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[promoted] = facts
        return facts


def _facts(values: dict[str, Any]) -> Facts:
    found = values.get
    http_status = found(_HTTP_STATUS) or found(_OLD_HTTP_STATUS)
    db_system = found(_DB) or found(_OLD_DB)
    statement = (found(_STATEMENT) or found(_OLD_STATEMENT) or found(_OPERATION)) if db_system else None
    repeated = found(_REPEATED)
    host = found(_PEER) or found(_ADDRESS) or found(_OLD_ADDRESS)
    queue = found(_QUEUE) or found(_MESSAGING)
    return Facts(
        route=_text(found(_ROUTE)),
        http_status=http_status if type(http_status) is int and 0 < http_status < 1000 else None,
        db_system=_text(db_system or None),
        statement=_text(statement or None),
        repeated=repeated if type(repeated) is int and 0 < repeated <= MOST_NS else None,
        called=str(host or ""),
        queue=str(queue) if queue else None,
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:LONGEST_STATEMENT]
