"""Decompresses a request's body up to a bound: what would become larger is refused before it does."""

from __future__ import annotations

import zlib
from typing import Any

from otelkit.delivery.compression import zstd_module


class TooLarge(Exception):
    """A body that is larger than it may be."""


class UnknownEncoding(Exception):
    """A Content-Encoding that is not supported."""


def inflated(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """The body itself.

    Raises TooLarge, UnknownEncoding, and ValueError for bytes that are not what the encoding says.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        if len(body) > most_bytes:
            raise TooLarge(f"the body is larger than {most_bytes} bytes")
        return body
    if encoding in ("gzip", "x-gzip"):
        return _gunzipped(body, most_bytes)
    if encoding == "deflate":
        return _whole(zlib.decompressobj(), body, most_bytes, zlib.error)
    if encoding == "zstd":
        module = zstd_module()
        if module is None:
            raise UnknownEncoding("zstd needs: pip install 'otelkit[zstd]'")
        return _whole(module.ZstdDecompressor(), body, most_bytes, module.ZstdError)
    raise UnknownEncoding(f"the encoding {encoding[:40]!r} is not supported: gzip, zstd and deflate are")


def _gunzipped(body: bytes, most_bytes: int) -> bytes:
    found = b""
    while body:  # a gzip file may have several members
        stream = zlib.decompressobj(wbits=31)
        found += _whole(stream, body, most_bytes - len(found), zlib.error)
        body = stream.unused_data
    return found


def _whole(stream: Any, body: bytes, most_bytes: int, error: type[Exception]) -> bytes:
    try:
        found: bytes = stream.decompress(body, most_bytes + 1)
    except (error, EOFError) as broken:
        raise ValueError(f"the body is not what its encoding says: {broken}") from None
    if len(found) > most_bytes:
        raise TooLarge(f"the body is larger than {most_bytes} bytes when it is decompressed")
    if not stream.eof:
        raise ValueError("the body ends too early")
    return found
