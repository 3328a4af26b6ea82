"""What otelkit asks of the interpreter that it runs in."""

from __future__ import annotations

import sys

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether threads run at the same time. An interpreter that has its lock at this import keeps it: an extension module
may bring it back, nothing takes it away.
"""
