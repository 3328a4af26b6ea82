"""What a Redis call is called, how many commands it has, and whether it may wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Called = str | bytes
"""A command as the caller wrote it."""

_BLOCKING = frozenset(
    (
        "BLMOVE",
        "BLMPOP",
        "BLPOP",
        "BRPOP",
        "BRPOPLPUSH",
        "BZMPOP",
        "BZPOPMAX",
        "BZPOPMIN",
        "WAIT",
        "WAITAOF",
    )
)
# With BLOCK among their options, and where these begin.
_BLOCKING_BY_OPTION = {"XREAD": 1, "XREADGROUP": 4}
_MOST_OPTIONS = 5  # COUNT n BLOCK ms NOACK


def command(client: Any, args: tuple[Any, ...]) -> tuple[Called, int]:
    """A single command."""
    name = args[0] if args else ""
    return (name if isinstance(name, (str, bytes)) else str(name)), 0


def pipeline(client: Any, args: tuple[Any, ...]) -> tuple[Called, int] | None:
    """All that was queued in a pipeline; None where that is nothing."""
    size = len(client.command_stack)
    if not size and not client.watching:
        return None
    transaction = client.is_transaction if hasattr(client, "is_transaction") else client.transaction
    return ("MULTI" if transaction or client.explicit_transaction else "PIPELINE"), size


def cluster_pipeline(transactions: type | None) -> Callable[[Any, tuple[Any, ...]], tuple[Called, int] | None]:
    """The same of a cluster's; `transactions` is the class of the strategy that makes it one, from redis-py 6.1."""

    def described(client: Any, args: tuple[Any, ...]) -> tuple[Called, int] | None:
        size = len(client)
        if not size:
            return None
        strategy = getattr(client, "_execution_strategy", None)
        return ("MULTI" if transactions is not None and isinstance(strategy, transactions) else "PIPELINE"), size

    return described


def name_of(called: Called) -> str:
    """A command's name: its first word."""
    text = called.decode("latin-1") if isinstance(called, bytes) else called
    return text.partition(" ")[0].upper()[:32]


def may_block(name: str) -> bool:
    """Whether a command waits in some of its runs and not in others."""
    return name in _BLOCKING_BY_OPTION


def blocks(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a command waits until there is something to return, with these arguments."""
    first = _BLOCKING_BY_OPTION.get(name)
    if first is None:
        return name in _BLOCKING
    return any(word in (b"BLOCK", "BLOCK", "block", b"block") for word in args[first : first + _MOST_OPTIONS])
