"""Who has sent something."""

from __future__ import annotations

from typing import Any

from otelkit.viewer.reading.asking import Cursor, ms


def services(cursor: Cursor) -> dict[str, Any]:
    """Every service with how much it sent."""
    rows = cursor.rows(
        "SELECT service, sum(spans)::BIGINT AS spans, sum(logs)::BIGINT AS logs, sum(errors)::BIGINT AS errors,"
        " max(last_ns) AS last_ns FROM viewer.services GROUP BY service ORDER BY service"
    )
    return {
        "services": [
            {
                "name": row["service"],
                "spans": row["spans"],
                "logs": row["logs"],
                "errors": row["errors"],
                "last_ms": ms(row["last_ns"]),
            }
            for row in rows
        ]
    }
