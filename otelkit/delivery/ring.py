"""The flight recorder's file: what a process is doing, in memory that outlives it.

    header, 4096 bytes    magic, pid, start and last sign of life (ns since the epoch), out-of-memory kills in the
                          control group at the start, boot id, length of what follows; service and resource as JSON
    slots, 512 bytes      a span in flight, an ended one, or a log record, that is on its way to the spool:

        offset  size
        0       16    trace id, high and low half
        16      8     span id
        24      8     parent's span id, 0 for none
        32      8     start of the span, or time of the log record (ns since the epoch)
        40      8     end of the span, or observed time
        48      2     flags, as in delivery/records.py
        50      1     kind of the span, or severity
        51      1     status
        52      4     length of the name
        56      4     length of the content
        60      112   name of the span, or of the event, UTF-8, cut
        172     339   OTLP attributes of the span, or the body of the log record, UTF-8, cut
        511     1     state: free, open, ended, log

All numbers are little-endian. The state is written last: a slot that was being written as the process died is free.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAGIC = b"OTELRNG1"
HEADER_BYTES = 4096
SLOT_BYTES = 512
FREE, OPEN, ENDED, LOG = 0, 1, 2, 3
STATE_AT = SLOT_BYTES - 1
SPAN_ID_AT = 16
END_AT = 40
STATUS_AT = 51

CONTENT_LENGTH_AT = 56
CONTENT_AT = 172
NAME_BYTES = 112
CONTENT_BYTES = STATE_AT - CONTENT_AT
SLOT = struct.Struct(f"<QQQQQQHBBII{NAME_BYTES}s{CONTENT_BYTES}sB")
ALIVE_AT = 24
_HEADER = struct.Struct("<8sQQQQ36sH")
LONGEST_ABOUT = HEADER_BYTES - _HEADER.size


@dataclass(frozen=True, slots=True)
class About:
    """Whose ring it is. `resource` holds the attributes that the process's records had."""

    pid: int
    started_ns: int
    alive_ns: int
    oom_kills: int
    boot_id: str
    service: str
    resource: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Slot:
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
    for offset in range(HEADER_BYTES, len(content) - SLOT_BYTES + 1, SLOT_BYTES):
        state = content[offset + STATE_AT]
        if state in (OPEN, ENDED, LOG):
            values: tuple[Any, ...] = SLOT.unpack_from(content, offset)
            name_length, length, name, data = values[9:13]
            told = {"name": name[:name_length].decode("utf-8", "ignore"), "content": data[:length]}
            yield Slot(state, values[0] << 64 | values[1], *values[2:9], **told)
