"""The flight recorder's file: what a process is doing, in memory that outlives it.

    header, 4096 bytes      magic, pid, start and last sign of life (ns since the epoch), out-of-memory kills in the
                            control group at the start, boot id, length of what follows; service and resource as JSON
    4096 slots, 128 bytes   spans in flight, and ended ones and log records that are on their way to the spool:

        offset  size
        0       16    trace id, big-endian
        16      8     span id
        24      8     parent's span id, 0 for none
        32      8     start of the span, or time of the log record (ns since the epoch)
        40      2     flags, as in delivery/records.py
        42      1     kind of the span, or severity
        43      1     status
        44      4     length of the name
        48      4     length of the content
        52      67    name of the span, or of the event, UTF-8, cut
        119     8     end of the span, or observed time
        127     1     state: free, open, ended, log

    4096 contents, 384 bytes   of each slot: OTLP attributes of the span, or the body of the log record, UTF-8, cut

Other numbers are little-endian. The state is written last, after the content too: a slot that was being written as the
process died is free. Slots are small, and apart from their contents, since every span writes one: what it writes should
be in the processor's cache still.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MAGIC = b"OTELRNG1"
HEADER_BYTES = 4096
SLOTS = 4096
SLOT_BYTES = 128
CONTENT_BYTES = 384
RING_BYTES = HEADER_BYTES + SLOTS * (SLOT_BYTES + CONTENT_BYTES)
FREE, OPEN, ENDED, LOG = 0, 1, 2, 3
SPAN_ID_AT = 16
STATUS_AT = 43
CONTENT_LENGTH_AT = 48
END_AT = 119
STATE_AT = SLOT_BYTES - 1
NAME_BYTES = 67
SLOT = struct.Struct(f"<16sQQQHBBII{NAME_BYTES}sQB")
END = struct.Struct("<QB")
ALIVE_AT = 24
_CONTENTS_AT = HEADER_BYTES + SLOTS * SLOT_BYTES
_HEADER = struct.Struct("<8sQQQQ36sH")
LONGEST_ABOUT = HEADER_BYTES - _HEADER.size


class About(NamedTuple):
    """Whose ring it is. `resource` holds the attributes that the process's records had."""

    pid: int
    started_ns: int
    alive_ns: int
    oom_kills: int
    boot_id: str
    service: str
    resource: Mapping[str, Any]


class Slot(NamedTuple):
    """One span or log record, as much of it as there was room for."""

    state: int
    trace_id: int
    span_id: int
    parent_id: int
    start_ns: int
    end_ns: int
    flags: int
    kind: int
    status: int
    name: str
    content: bytes


def content_at(slot: int) -> int:
    """Where the content of a slot begins that begins at `slot`."""
    return _CONTENTS_AT + (slot - HEADER_BYTES) * (CONTENT_BYTES // SLOT_BYTES)


def header(about: About) -> bytes:
    """The beginning of a ring; where the resource has no room, its attributes are left out from the last one on."""
    resource = dict(about.resource)
    while len(told := json.dumps({"service": about.service, "resource": resource}).encode()) > LONGEST_ABOUT:
        resource.popitem()
    fixed = _HEADER.pack(
        MAGIC, about.pid, about.started_ns, about.alive_ns, about.oom_kills, about.boot_id.encode()[:36], len(told)
    )
    return (fixed + told).ljust(HEADER_BYTES, b"\0")


def read(content: bytes) -> tuple[About, Iterator[Slot]]:
    """A ring's header and the slots that are not free. Raises ValueError for what is no ring."""
    try:
        magic, pid, started_ns, alive_ns, oom_kills, boot_id, length = _HEADER.unpack_from(content)
        told = json.loads(content[_HEADER.size : _HEADER.size + length])
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError("no ring") from error
    if magic != MAGIC:
        raise ValueError("no ring")
    boot = boot_id.rstrip(b"\0").decode("ascii", "replace")
    about = About(pid, started_ns, alive_ns, oom_kills, boot, told["service"], told["resource"])
    return about, _slots(content)


def _slots(content: bytes) -> Iterator[Slot]:
    for offset in range(HEADER_BYTES, min(len(content), _CONTENTS_AT), SLOT_BYTES):
        state = content[offset + STATE_AT]
        if state in (OPEN, ENDED, LOG):
            trace_id, span_id, parent_id, start_ns, flags, kind, status, name_length, length, name, end_ns, _ = (
                SLOT.unpack_from(content, offset)
            )
            data = content_at(offset)
            yield Slot(
                state,
                int.from_bytes(trace_id, "big"),
                span_id,
                parent_id,
                start_ns,
                end_ns,
                flags,
                kind,
                status,
                name[:name_length].decode("utf-8", "ignore"),
                content[data : data + min(length, CONTENT_BYTES)],
            )
