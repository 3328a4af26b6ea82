"""A filter as a condition in SQL: what the user wrote goes in as bind parameters, never as text of the statement."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from otelkit.viewer.filter import And, Compare, Filter, FilterError, Not, Or, Text, Value
from otelkit.viewer.values import text_json

Target = Literal["spans", "logs"]
Condition = tuple[str, list[Any]]

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
SEVERITIES = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "warning": 13, "error": 17, "fatal": 21}
KEYS = {
    "spans": ("service", "name", "route", "status", "duration", "kind", "trace", "span", "scope"),
    "logs": ("service", "severity", "body", "event", "trace", "span", "scope"),
}
OPERATORS = (":", "!=", ">", ">=", "<", "<=")
_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)?")
_TEXT_COLUMNS = {
    "spans": {"service": "service", "name": "name", "scope": "scope"},
    "logs": {"service": "service", "body": "body", "message": "body", "event": "event_name", "scope": "scope"},
}
OWN_COLUMNS = {"http.response.status_code": "http_status", "http.route": "route", "db.system.name": "db_system"}
_SEARCHED = {"spans": ("name", "status_message", "route", "statement"), "logs": ("body", "event_name")}
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def condition(found: Filter, target: Target, resources: str = "viewer.resources") -> Condition:
    """The condition on rows of `spans` or `logs`, and its parameters in order.

    Raises FilterError where a key has no such value, or the other kind of record alone has it.
    """

    def of_term(term: Compare | Text) -> Condition:
        if isinstance(term, Text):
            return _search(term.value, _SEARCHED[target])
        return _comparison(term, target, resources)

    return _put_together(found, of_term)


def columns_condition(found: Filter, columns: Mapping[str, str], searched: Sequence[str], where: str) -> Condition:
    """The condition on rows that have nothing but these columns, by key; a text is searched in some of them.

    Raises FilterError for another key, with what is found by which keys (`where`).
    """

    def of_term(term: Compare | Text) -> Condition:
        if isinstance(term, Text):
            return _search(term.value, searched)
        if term.key not in columns:
            raise FilterError(f"{where} are found by {', '.join(columns)}", term.at)
        return _on_text(columns[term.key], term)

    return _put_together(found, of_term)


def _put_together(found: Filter, of_term: Callable[[Compare | Text], Condition]) -> Condition:
    """The condition of a filter whose terms have these; no term has `!=`, which is the opposite of `:`."""
    if isinstance(found, (And, Or)):
        if not found.parts:
            return "true", []
        parts = [_put_together(part, of_term) for part in found.parts]
        joined = (" AND " if isinstance(found, And) else " OR ").join(sql for sql, _ in parts)
        return f"({joined})", [value for _, values in parts for value in values]
    if isinstance(found, Compare) and found.operator == "!=":
        found = Not(Compare(found.key, ":", found.value, found.at))
    if isinstance(found, Not):
        sql, values = _put_together(found.part, of_term)
        return f"(NOT coalesce({sql}, false))", values
    return of_term(found)


def of_trace(found: Filter) -> tuple[Filter, list[Filter]]:
    """What one span of a trace must match, and what none may: the negated terms at the top."""
    parts = found.parts if isinstance(found, And) else (found,)
    wanted = tuple(part for part in parts if not isinstance(part, Not) and not _negates(part))
    unwanted: list[Filter] = []
    for part in parts:
        if isinstance(part, Not):
            unwanted.append(part.part)
        elif isinstance(part, Compare) and _negates(part):
            unwanted.append(Compare(part.key, ":", part.value, part.at))
    return And(wanted), unwanted


def _negates(part: Filter) -> bool:
    return isinstance(part, Compare) and part.operator == "!="


def _search(value: Value, columns: Sequence[str]) -> Condition:
    if value.wild:
        pattern = f"%{like(value.text.lower())}%"
        parts = [f"lower({column}) LIKE ? ESCAPE '\\'" for column in columns]
    else:
        pattern = value.text.lower()
        parts = [f"contains(lower({column}), ?)" for column in columns]
    return f"coalesce({' OR '.join(f'coalesce({part}, false)' for part in parts)}, false)", [pattern] * len(parts)


def _comparison(found: Compare, target: Target, resources: str) -> Condition:
    key, value = found.key, found.value
    if key in _TEXT_COLUMNS[target]:
        return _on_text(_TEXT_COLUMNS[target][key], found)
    if key in ("trace", "span"):
        return _on_id(f"{key}_id", 16 if key == "trace" else 8, found)
    if key == "severity":
        if target != "logs":
            raise FilterError("severity is of logs: spans have a status", found.at)
        return _on_severity(found)
    if key in ("status", "duration", "kind"):
        if target != "spans":
            raise FilterError(f"{key} is of spans: logs have a severity", found.at)
        if key == "duration":
            return f"duration_ns {_sign(found)} ?", [_duration_ns(found)]
        return _on_name(key, STATUSES if key == "status" else KINDS, found)
    if key == "route":
        if target == "spans":
            return _on_text("route", found)
        found = Compare("http.route", found.operator, value, found.at)
    return _on_attribute(found, target, resources)


def _on_text(column: str, found: Compare) -> Condition:
    if found.operator != ":":
        raise FilterError(f"{found.key} is a text: it has : and != alone", found.at)
    if found.value.wild:
        return f"{column} LIKE ? ESCAPE '\\'", [like(found.value.text)]
    return f"{column} = ?", [found.value.text]


def _on_id(column: str, size: int, found: Compare) -> Condition:
    if found.operator != ":":
        raise FilterError(f"{found.key} is an id: it has : and != alone", found.at)
    text = found.value.text.lower()
    if found.value.wild:
        return f"lower(hex({column})) LIKE ? ESCAPE '\\'", [like(text)]
    if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text):
        raise FilterError(f"{found.key} is an id of {2 * size} hex digits", found.at)
    return f"{column} = ?", [bytes.fromhex(text)]


def _on_severity(found: Compare) -> Condition:
    named = SEVERITIES.get(found.value.text.lower())
    number = int(found.value.text) if named is None and re.fullmatch(r"\d{1,2}", found.value.text) else named
    if number is None:
        raise FilterError("severity is one of trace, debug, info, warn, error, fatal", found.at)
    last = number + 3 if named is not None else number
    if found.operator == ":":
        return "severity BETWEEN ? AND ?", [number, last]
    return f"severity {_sign(found)} ?", [last if found.operator in (">", "<=") else number]


def _on_name(column: str, names: tuple[str, ...], found: Compare) -> Condition:
    if found.operator != ":" or found.value.text.lower() not in names:
        raise FilterError(f"{column} is one of {', '.join(names)}", found.at)
    return f"{column} = ?", [names.index(found.value.text.lower())]


def _on_attribute(found: Compare, target: Target, resources: str) -> Condition:
    column = OWN_COLUMNS.get(found.key) if target == "spans" else None
    if column == "http_status" and _NUMBER.fullmatch(found.value.text):
        return f"coalesce(http_status {_sign(found)} ?, false)", [float(found.value.text)]
    if column is not None and column != "http_status" and found.operator == ":":
        sql, values = _on_text(column, found)
        return f"coalesce({sql}, false)", values
    sql, values = attribute_condition("attributes", found)
    return f"({sql} OR resource IN (SELECT id FROM {resources} WHERE {sql}))", [*values, *values]


def attribute_condition(column: str, found: Compare) -> Condition:
    """On one attribute in a column of JSON: only of the few rows that have its text is the JSON read.

    It may be NULL where it does not hold. What looks for the text stands first and by itself: DuckDB reads the JSON of
    every row where both are an argument of a function.
    """
    key, text = text_json(found.key), found.value.text
    extracted = f"json_extract_string({column}, ?)"
    has, path = f"{key}:", f"$.{key}"
    if found.operator != ":":
        if not _NUMBER.fullmatch(text):
            raise FilterError(f"{found.operator} compares numbers, and {text[:40]!r} is none", found.at)
        number = f"TRY_CAST({extracted} AS DOUBLE) {_sign(found)} ?"
        return f"(contains({column}, ?) AND {number})", [has, path, float(text)]
    if found.value.wild:
        if not text.strip("*"):
            return f"contains({column}, ?)", [has]
        likes = f"{extracted} LIKE ? ESCAPE '\\'"
        return f"(contains({column}, ?) AND {likes})", [has, path, like(text)]
    if _NUMBER.fullmatch(text):
        equal = f"({extracted} = ? OR TRY_CAST({extracted} AS DOUBLE) = ?)"
        # One expression: looking for two texts takes twice as long.
        begins = f'{re.escape(has)}({"|".join(map(re.escape, _numbers(text)))}|"{re.escape(text)})'
        return f"(regexp_matches({column}, ?) AND {equal})", [begins, path, text, path, float(text)]
    begins = has if text in ("true", "false") else f"{has}{text_json(text)}"
    return f"(contains({column}, ?) AND {extracted} = ?)", [begins, path, text]


def attribute_texts(key: str, text: str) -> list[str]:
    """The JSON of all attributes that are equal to a value: of texts, truth values and numbers."""
    forms = [text_json(text)]
    if text in ("true", "false"):
        forms.append(text)
    if _NUMBER.fullmatch(text):
        forms += [form for number in _numbers(text) for form in (number, f"{number}.0")]
    return [f"{text_json(key)}:{form}" for form in dict.fromkeys(forms)]


def _numbers(text: str) -> list[str]:
    """How the JSON of a number begins: an integer that no float has the place for is as it was written."""
    number = float(text)
    plain = str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return [plain] if "." in text or "e" in text.lower() or text == plain else [plain, str(int(text))]


def _sign(found: Compare) -> str:
    return "=" if found.operator == ":" else found.operator


def _duration_ns(found: Compare) -> int:
    match = _DURATION.fullmatch(found.value.text)
    if match is None:
        raise FilterError("a duration is a number with ns, us, ms, s, m or h", found.at)
    return min(int(float(match[1]) * _UNITS_NS[match[2] or "ms"]), (1 << 63) - 1)


def like(text: str) -> str:
    """A text with `*` as a pattern of LIKE."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
