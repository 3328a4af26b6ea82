"""The headers of every request: from the settings, and from a file that is read again when it changes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from otelkit.config.parse import header
from otelkit.runtime.selflog import Throttle

logger = logging.getLogger("otelkit.delivery")


class Headers:
    """What `OTEL_EXPORTER_OTLP_HEADERS` and the file say, the file's first.

    A credential that is renewed (a mounted secret, a token that a sidecar writes) takes effect with the next request,
    without a restart. A file that cannot be read, or a line in it, leaves in force what was read before. Used by the
    sender thread alone.
    """

    def __init__(self, fixed: Mapping[str, str], file: str | None) -> None:
        self._fixed = fixed
        self._path = Path(file).expanduser() if file else None
        self._seen: tuple[int, int, int] | None = None
        self._current = dict(fixed)
        self._throttle = Throttle()

    def current(self) -> Mapping[str, str]:
        """The headers of the next request."""
        if self._path is not None:
            try:
                found = os.stat(self._path)
                seen = (found.st_ino, found.st_mtime_ns, found.st_size)
                if seen != self._seen:
                    content = self._path.read_text(encoding="utf-8")
                    self._seen = seen
                    self._current = {**self._fixed, **self._parsed(content)}
            except (OSError, UnicodeDecodeError) as error:
                self._say(f"cannot be read ({error.strerror if isinstance(error, OSError) else 'it is not UTF-8'})")
        return self._current

    def _parsed(self, content: str) -> dict[str, str]:
        found = {}
        for number, line in enumerate(content.splitlines(), 1):
            name, separator, value = line.partition("=")
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                if not separator:
                    raise ValueError("a line is `name=value`")
                name, value = header(name.strip(), value.strip())
            except ValueError as error:
                self._say(f"line {number} is left out: {error}")
                continue
            found[name] = value
        return found

    def _say(self, what: str) -> None:
        if self._throttle.admit(what) is not None:
            # Never a line of it: it holds credentials.
            logger.warning("OTELKIT_EXPORTER_OTLP_HEADERS_FILE=%s %s", self._path, what)
