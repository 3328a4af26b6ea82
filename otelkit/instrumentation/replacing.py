"""A function of somebody else's in whose place one of ours stands, until the undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Undo = Callable[[], None]


def replace(owner: Any, name: str, ours: Callable[..., Any]) -> Undo:
    """Puts a function into its place in a module or class; returns the undo.

    The undo leaves what somebody else has put there in the meantime, with ours below it; a class that had inherited the
    function inherits it again.
    """
    inherited = name not in vars(owner)
    original = None if inherited else vars(owner)[name]
    setattr(owner, name, ours)

    def undo() -> None:
        if vars(owner).get(name) is not ours:
            return
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)

    return undo
