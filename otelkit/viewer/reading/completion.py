"""What may stand at a place in a filter: keys, operators, and the values that are there."""

from __future__ import annotations

import re
from typing import Any

from otelkit.viewer.filter_sql import KEYS, KINDS, OPERATORS, SEVERITIES, STATUSES
from otelkit.viewer.reading.asking import Cursor
from otelkit.viewer.values import text_json

_NEWEST = 5_000
_MOST = 50
_TERM = re.compile(
    r'(?:^|[\s(])-?(?P<key>[A-Za-z_][\w./-]*)?(?P<operator>!=|>=|<=|:|=|>|<)?(?P<value>"[^"]*|[^\s()"]*)?$'
)
_ENUMS = {"status": STATUSES, "kind": KINDS[1:], "severity": tuple(name for name in SEVERITIES if name != "warning")}
_COLUMNS = {"service": "service", "name": "name", "route": "route", "scope": "scope"}


def complete(cursor: Cursor, query: str, at: int) -> dict[str, Any]:
    """The options at a place, most frequent first, and from where on they replace what is there."""
    before = query[:at]
    term = _TERM.search(before)
    key, operator, value = (term["key"] or "", term["operator"], term["value"] or "") if term else ("", None, "")
    if operator is None:
        start = at - len(key)
        return {"from": start, "options": _keys(cursor, key)}
    return {"from": at - len(value), "options": _values(cursor, key, value.lstrip('"'))}


def _keys(cursor: Cursor, typed: str) -> list[dict[str, Any]]:
    rows = cursor.rows(
        f"SELECT key, count(*) AS count FROM (SELECT unnest(json_keys(attributes)) AS key FROM"
        f" (SELECT attributes FROM viewer.spans ORDER BY start_ns DESC LIMIT {_NEWEST}))"
        f" WHERE starts_with(key, ?) GROUP BY key ORDER BY count DESC, key LIMIT {_MOST}",
        [typed],
    )
    own = [key for key in (*KEYS["spans"], "severity") if key.startswith(typed)]
    options = [{"text": key, "kind": "key", "count": None} for key in own]
    options += [{"text": row["key"], "kind": "key", "count": row["count"]} for row in rows if row["key"] not in own]
    if typed in own or any(row["key"] == typed for row in rows):
        options = [{"text": f"{typed}{sign}", "kind": "operator", "count": None} for sign in OPERATORS] + options
    return options[:_MOST]


def _values(cursor: Cursor, key: str, typed: str) -> list[dict[str, Any]]:
    if key in _ENUMS:
        return [{"text": name, "kind": "value", "count": None} for name in _ENUMS[key] if name.startswith(typed)]
    if key in _COLUMNS:
        value, parameters = _COLUMNS[key], []
    else:
        value, parameters = "json_extract_string(attributes, ?)", [f"$.{text_json(key)}"]
    rows = cursor.rows(
        f"SELECT value, count(*) AS count FROM (SELECT {value} AS value FROM"
        f" (SELECT * FROM viewer.spans ORDER BY start_ns DESC LIMIT {_NEWEST}))"
        f" WHERE value IS NOT NULL AND starts_with(value, ?) GROUP BY value ORDER BY count DESC, value LIMIT {_MOST}",
        [*parameters, typed],
    )
    return [{"text": _written(row["value"]), "kind": "value", "count": row["count"]} for row in rows]


def _written(value: str) -> str:
    """A value as it must stand in a filter."""
    if value and not re.search(r'[\s()"*]', value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
