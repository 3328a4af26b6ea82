"""What may be said about a SQL statement: its text without literals, its operation, and a short summary, cached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

# A number is whatever begins with a digit: 0xFF, 1_000, 1.5e-3, 4f and what is glued to it.
_NUMBER = r"""(?P<number>(?:(?<![\w.)])[-+])?(?<!\w)\.?\d[\w.]*(?:(?<=[eE])[-+][\w.]*)?)"""
_QUOTED = r"""(?P<quoted>'(?:[^']|'')*(?:'|$))"""
_ESCAPED = r"""'(?:[^'\\]|''|\\.)*(?:'|$)"""
_DOUBLE_QUOTED = r'"(?:[^"]|"")*(?:"|$)'
_BACKTICKED = r"`(?:[^`]|``)*(?:`|$)"
_BLOCK = r"/\*(?:(?!\*/).)*(?:\*/|$)"
_NESTED = _BLOCK
for _ in range(3):  # comments within comments, as deep as anybody writes them
    _NESTED = rf"/\*(?:(?!\*/|/\*).|{_NESTED})*(?:\*/|$)"


def _tokens(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join((*patterns, _NUMBER)), re.DOTALL)


# What a quote, a backslash or a comment means differs: read wrongly, a literal would stand outside of its quotes. An
# open quote runs to the end, so that a statement that was cut or is broken shows less, never more.
_POSTGRESQL = _tokens(
    rf"(?P<comment>--[^\n]*|{_NESTED})",
    rf"(?P<escaped>(?<!\w)[eE]{_ESCAPED}(?:\s*\n\s*{_ESCAPED})*)",
    _QUOTED,
    r"(?P<dollar>(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|$))",
    rf"(?P<name>{_DOUBLE_QUOTED}|(?<!\w)\$\d+)",
)
_SQLITE = _tokens(
    rf"(?P<comment>--[^\n]*|{_BLOCK})",
    _QUOTED,
    rf"(?P<name>{_DOUBLE_QUOTED}|{_BACKTICKED}|\[[^\]]*(?:\]|$)|[?:@$]\d+)",
)
_ORACLE = _tokens(
    rf"(?P<comment>--[^\n]*|{_BLOCK})",
    r"(?P<own>(?<!\w)[nN]?[qQ]'(?:\[.*?(?:\]'|$)|\{.*?(?:\}'|$)|\(.*?(?:\)'|$)|<.*?(?:>'|$)"
    r"|(?P<delimiter>.).*?(?:(?P=delimiter)'|$)))",
    _QUOTED,
    rf"(?P<name>{_DOUBLE_QUOTED}|:\d+)",
)
_MYSQL = _tokens(
    rf"(?P<comment>#[^\n]*|--(?=\s|$)[^\n]*|{_BLOCK})",
    rf"(?P<quoted>{_ESCAPED})",
    r"""(?P<double>"(?:[^"\\]|""|\\.)*(?:"|$))""",
    rf"(?P<name>{_BACKTICKED})",
)
_MSSQL = _tokens(
    rf"(?P<comment>--[^\n]*|{_NESTED})",
    _QUOTED,
    rf"(?P<name>\[(?:[^\]]|\]\])*(?:\]|$)|{_DOUBLE_QUOTED})",
)
_DIALECTS = {"sqlite": _SQLITE, "oracle": _ORACLE, "mysql": _MYSQL, "mariadb": _MYSQL, "mssql": _MSSQL}
# PostgreSQL's drivers get a cast with each: ::VARCHAR(20), ::TIMESTAMP(6) WITHOUT TIME ZONE, ::INTEGER[].
_CAST = r"::\w+(?: \w+){0,3}(?:\(\?(?:, ?\?)?\))?(?: \w+){0,3}(?:\[\])*"
_PARAMETER = rf"(?:\?|%s|\$\d+|:\w+|%\(\w+\)s)(?:{_CAST})?"
_LISTS = re.compile(rf"\(\s*{_PARAMETER}(?:\s*,\s*{_PARAMETER})+\s*\)")
_ROWS = re.compile(r"\(\?, …\)(?:\s*,\s*\(\?, …\))+")
_CUT_ROW = re.compile(r"(\(\?, …\), …)\s*,?\s*(?:\(.*)?$", re.DOTALL)
_SPACE = re.compile(r"\s+")
_TARGET = re.compile(
    r"\b(?:from|into|update|join|table)\s+(?:only\s+|if\s+(?:not\s+)?exists\s+)?([\w.\"`\[\]]+)",
    re.IGNORECASE,
)
_LONGEST_TEXT = 4096
_LONGEST_READ = 4 * _LONGEST_TEXT
_LONGEST_SUMMARY = 255


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as it may be recorded: `text` has `?` for every literal, `summary` names the span."""

    text: str
    operation: str
    summary: str


@lru_cache(maxsize=1024)
def statement(sql: str, dialect: str) -> Statement:
    """Reads a statement in SQLAlchemy's name of a dialect: literals become `?`, lists of parameters `(?, …)`
    and rows of them `(?, …), …`, comments go; the names of tables stay.

    The summary follows
    https://opentelemetry.io/docs/specs/semconv/db/database-spans/#generating-a-summary-of-the-query : the operation
    and its targets.
    """
    text = _DIALECTS.get(dialect, _POSTGRESQL).sub(_literal, sql[:_LONGEST_READ])
    text = _ROWS.sub("(?, …), …", _LISTS.sub("(?, …)", text))
    if len(sql) > _LONGEST_READ:
        text = _CUT_ROW.sub(r"\1", text)
    text = _SPACE.sub(" ", text).strip()[:_LONGEST_TEXT]
    word = re.match(r"[\s(]*(\w+)", text)
    operation = word.group(1).upper() if word else "SQL"
    if operation == "WITH":
        inner = re.search(r"\)\s*(select|insert|update|delete)\b", text, re.IGNORECASE)
        operation = inner.group(1).upper() if inner else operation
    targets = dict.fromkeys(found.strip('"`[]') for found in _TARGET.findall(text))
    summary = " ".join((operation, *targets))[:_LONGEST_SUMMARY]
    return Statement(text, operation, summary)


def _literal(match: re.Match[str]) -> str:
    if match.lastgroup == "comment":
        return " "
    if match.lastgroup == "name":
        return match.group()
    return "?"
