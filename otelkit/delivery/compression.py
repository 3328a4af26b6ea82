"""How a request's body is compressed: gzip, or zstd where it is asked for and installed."""

from __future__ import annotations

import gzip
from types import ModuleType
from typing import Literal

Compression = Literal["none", "gzip", "zstd"]

_FASTEST_GZIP = 1  # level 6 costs the worker three times the CPU for a tenth fewer bytes
_FASTEST_ZSTD = 1
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def zstd_module() -> ModuleType | None:
    """The standard library's zstd (Python 3.14), or its backport; None where neither is there."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            return None
    module: ModuleType = zstd
    return module


def compressed(body: bytes, compression: Compression = "gzip") -> bytes:
    """A request as it is sent compressed, and as it lies in the spool."""
    if compression == "none":
        return body
    zstd = zstd_module() if compression == "zstd" else None
    return gzip.compress(body, _FASTEST_GZIP) if zstd is None else zstd.compress(body, _FASTEST_ZSTD)


def compression_of(body: bytes) -> Compression:
    """How a body is compressed: an OTLP request begins with other bytes than either format."""
    if body.startswith(_GZIP_MAGIC):
        return "gzip"
    return "zstd" if body.startswith(_ZSTD_MAGIC) else "none"


def decompressed(body: bytes) -> bytes:
    """The request itself.

    Raises OSError, EOFError or the format's own error for bytes that are damaged, and ImportError for zstd where it is
    not there any more.
    """
    found = compression_of(body)
    if found == "none":
        return body
    if found == "gzip":
        return gzip.decompress(body)
    zstd = zstd_module()
    if zstd is None:
        raise ImportError("zstd is not installed: pip install 'otelkit[zstd]'")
    content: bytes = zstd.decompress(body)
    return content
