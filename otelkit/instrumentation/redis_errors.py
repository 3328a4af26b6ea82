"""The code that a Redis server's error begins with."""

from __future__ import annotations

# What a script or a module returns as its error's first word may be anything, an argument too.
_CODES = frozenset(
    (
        "ASK",
        "BUSY",
        "BUSYGROUP",
        "BUSYKEY",
        "CLUSTERDOWN",
        "CROSSSLOT",
        "ERR",
        "EXECABORT",
        "INPROG",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOAUTH",
        "NOGOODSLAVE",
        "NOGROUP",
        "NOMASTERLINK",
        "NOPERM",
        "NOPROTO",
        "NOREPLICAS",
        "NOSCRIPT",
        "NOTBUSY",
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
        "UNKILLABLE",
        "WRONGPASS",
        "WRONGTYPE",
    )
)
# redis-py takes these off the message; up to 7.0 the class is what is left of them.
_BY_CLASS = {
    "AskError": "ASK",
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "ExecAbortError": "EXECABORT",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}

NO_FAILURES = frozenset(("NOSCRIPT",))
"""Codes of answers that redis-py itself goes on from: it loads the script and asks again."""


def status_code(error: BaseException) -> str | None:
    """The code of an error that a server answered with; None of any other error, and where it is none of Redis' own."""
    found = getattr(error, "status_code", None) or _BY_CLASS.get(type(error).__name__)
    if found is None and type(error).__name__ == "ResponseError":
        found = str(error.args[0]).partition(" ")[0] if error.args else ""
        # "ERR" is taken off too; what is left begins with a word in lower case, what had another code does not.
        if found and not found.isupper():
            found = "ERR" if found.islower() else None
    return found if found in _CODES else None
