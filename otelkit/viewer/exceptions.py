"""Occurrences of exceptions, from span events and log records, and what groups them.

otelkit's senders say a fingerprint (signals/fingerprints.py). For others it is made here, of the type and of the
application's own functions in the stack trace: no line numbers, no texts, no libraries' frames, each place once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from otelkit.signals.exceptions import FINGERPRINT
from otelkit.viewer.envelope import Resource

_PYTHON_FRAME = re.compile(r'^\s+File "([^"]+)", line \d+, in (\S+)', re.MULTILINE)
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")
_LIBRARIES = re.compile(r"site-packages|dist-packages|/lib/python\d|^<")
_LONGEST_STACK = 65_536
_LONGEST_MESSAGE = 2_000
_MOST_FRAMES = 200


def occurrence(
    attributes: Mapping[str, Any], time_ns: int, trace_id: bytes | None, span_id: bytes | None, resource: Resource
) -> tuple[Any, ...]:
    """A row of the table `errors`."""
    kind = str(attributes.get("exception.type") or "Exception")
    stack = str(attributes.get("exception.stacktrace") or "")[:_LONGEST_STACK]
    given = attributes.get(FINGERPRINT)
    return (
        time_ns,
        trace_id,
        span_id,
        resource.service,
        resource.release,
        kind,
        str(attributes.get("exception.message") or "")[:_LONGEST_MESSAGE],
        stack or None,
        str(given)[:64] if given else fingerprint_of(kind, stack),
        bool(given),
    )


def fingerprint_of(kind: str, stack: str) -> str:
    """16 hex digits of an exception's type and its stack trace as text."""
    frames = _PYTHON_FRAME.findall(stack)[-_MOST_FRAMES:]
    own = [frame for frame in frames if not _LIBRARIES.search(frame[0])] or frames
    if own:
        places = dict.fromkeys(f"{file.rpartition('/')[2].removesuffix('.py')}:{function}" for file, function in own)
        described = "|".join((kind, *places))
    else:
        described = "|".join((kind, *(_NUMBERS.sub("0", line.strip()) for line in stack.splitlines()[1:_MOST_FRAMES])))
    return hashlib.blake2b(described.encode("utf-8", "replace"), digest_size=8).hexdigest()
