"""The versions of installed distributions, without the parser of mails that `importlib.metadata.version` needs.

At a start of a program it costs as much as the rest of all that is found out about the process.
"""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None where it is not installed."""
    try:
        distribution = Distribution.from_name(name)
    except PackageNotFoundError:
        return None
    return version_of(distribution)


def version_of(distribution: Distribution) -> str:
    """The version of a distribution, from the head of its metadata (https://peps.python.org/pep-0566/); `unknown` where
    that cannot be read now, since too many files are open perhaps.
    """
    try:
        text = distribution.read_text("METADATA") or ""
    except OSError:
        return "unknown"
    head, _, _ = text.partition("\n\n")
    for line in head.splitlines():
        if line.startswith("Version:"):
            return line.removeprefix("Version:").strip()
    return distribution.version
