"""The filter language: `service:shop duration>100ms -status:ok (route:/a OR route:/b*) "any text"`.

Terms that stand side by side must all hold, `OR` binds weaker, brackets group, `-` negates. A term is a comparison
(`: = != > >= < <=`) or a text. `*` in an unquoted value stands for any characters. docs/viewer/api.md describes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

LONGEST = 4_000
_DEEPEST = 20
_KEY = re.compile(r"[A-Za-z_][\w./-]*")
_OPERATOR = re.compile(r"!=|>=|<=|:|=|>|<")
_BARE = re.compile(r'[^\s()"]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BLANKS = re.compile(r"\s*")


class FilterError(ValueError):
    """A filter that cannot be understood; `at` is where in it."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True)
class Value:
    """What a key is compared with; in quotes `*` is itself."""

    text: str
    quoted: bool = False

    @property
    def wild(self) -> bool:
        """Whether it has a `*` that stands for anything."""
        return not self.quoted and "*" in self.text

    def __str__(self) -> str:
        return _quote(self.text) if self.quoted else self.text


@dataclass(frozen=True)
class Compare:
    """`key:value` and the like."""

    key: str
    operator: str
    value: Value
    at: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compare) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def _all(self) -> tuple[object, ...]:
        return self.key, self.operator, self.value

    def __str__(self) -> str:
        return f"{self.key}{self.operator}{self.value}"


@dataclass(frozen=True)
class Text:
    """A text that is to be found in names, bodies and messages."""

    value: Value

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Not:
    """What must not hold."""

    part: Filter

    def __str__(self) -> str:
        return f"-{_grouped(self.part)}"


@dataclass(frozen=True)
class And:
    """All hold; of none it is everything."""

    parts: tuple[Filter, ...]

    def __str__(self) -> str:
        return " ".join(f"({part})" if isinstance(part, (And, Or)) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Or:
    """One holds."""

    parts: tuple[Filter, ...]

    def __str__(self) -> str:
        return " OR ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


Filter: TypeAlias = "Compare | Text | Not | And | Or"
EVERYTHING = And(())


def parse(query: str) -> Filter:
    """The filter of a query; an empty one is everything.

    Raises FilterError, and nothing else, for any text.
    """
    if len(query) > LONGEST:
        raise FilterError(f"the filter has more than {LONGEST} characters", LONGEST)
    parser = _Parser(query)
    found = parser.alternatives(0)
    if parser.position < len(query):
        raise FilterError("a bracket closes what none has opened", parser.position)
    return found


class _Parser:
    def __init__(self, query: str) -> None:
        self._query = query
        self.position = 0

    def alternatives(self, depth: int) -> Filter:
        if depth > _DEEPEST:
            raise FilterError("nested too deeply", self.position)
        found = [self._together(depth)]
        while True:
            at = self.position
            if not self._word("OR"):
                break
            if found[-1] == EVERYTHING:
                raise FilterError("nothing stands before OR", at)
            found.append(self._together(depth))
            if found[-1] == EVERYTHING:
                raise FilterError("nothing stands after OR", self.position)
        return found[0] if len(found) == 1 else Or(tuple(found))

    def _together(self, depth: int) -> Filter:
        found: list[Filter] = []
        while True:
            self._blanks()
            if self.position >= len(self._query) or self._query[self.position] == ")" or self._sees("OR"):
                break
            if self._word("AND"):
                continue
            found.append(self._term(depth))
        return found[0] if len(found) == 1 else And(tuple(found))

    def _term(self, depth: int) -> Filter:
        query, start = self._query, self.position
        if query[start] == "-" and start + 1 < len(query) and not query[start + 1].isspace():
            if depth > _DEEPEST:
                raise FilterError("nested too deeply", start)
            self.position += 1
            if query[self.position] == ")":
                raise FilterError("nothing stands after -", start)
            return Not(self._term(depth + 1))
        if query[start] == "(":
            self.position += 1
            inner = self.alternatives(depth + 1)
            self._blanks()
            if self.position >= len(query):
                raise FilterError("a bracket is not closed", start)
            self.position += 1
            if inner == EVERYTHING:
                raise FilterError("nothing stands in the brackets", start)
            return inner
        key = _KEY.match(query, start)
        operator = _OPERATOR.match(query, key.end()) if key else None
        if key and operator:
            self.position = operator.end()
            value = self._value(f"a value is missing after {key[0]}{operator[0]}")
            return Compare(key[0], ":" if operator[0] == "=" else operator[0], value, start)
        return Text(self._value("a term is missing"))

    def _value(self, missing: str) -> Value:
        query, start = self._query, self.position
        if start < len(query) and query[start] == '"':
            quoted = _QUOTED.match(query, start)
            if quoted is None:
                raise FilterError("a quote is not closed", start)
            self.position = quoted.end()
            return Value(_ESCAPED.sub(r"\1", quoted[1]), quoted=True)
        bare = _BARE.match(query, start)
        if bare is None:
            raise FilterError(missing, start)
        self.position = bare.end()
        return Value(bare[0])

    def _blanks(self) -> None:
        found = _BLANKS.match(self._query, self.position)
        self.position = found.end() if found else self.position

    def _sees(self, word: str) -> bool:
        end = self.position + len(word)
        follows = self._query[end : end + 1]
        return self._query.startswith(word, self.position) and (not follows or follows.isspace() or follows in "()")

    def _word(self, word: str) -> bool:
        self._blanks()
        if not self._sees(word):
            return False
        self.position += len(word)
        return True


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _grouped(part: Filter) -> str:
    return f"({part})" if isinstance(part, (And, Or)) else str(part)
