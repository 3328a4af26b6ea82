"""What is on every record of the logging module, and what came by `extra`."""

from __future__ import annotations

import logging

STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""What logging itself puts on a record, and what formatters add; everything else came by `extra`."""
