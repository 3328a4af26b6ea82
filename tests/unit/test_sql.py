"""What is said about a SQL statement: never a literal, always where it goes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otelkit.instrumentation.sql import statement

CANARY = "c4n4ry"
NUMBER = "8675309"
DIALECTS = ("postgresql", "sqlite", "mysql", "mariadb", "mssql", "oracle", "something")


def quoted(content: str) -> str:
    """A literal in the quotes of the standard."""
    return "'" + content.replace("'", "''") + "'"


# Content that a literal may have: the canary between everything that a tokenizer may stumble over.
PIECES = [
    "'",
    '"',
    "`",
    "\\",
    "--",
    "#",
    "/*",
    "*/",
    "$$",
    "$a$",
    "[",
    "]",
    ";",
    "\n",
    " ",
    "%s",
    "?",
    ":x",
    "E",
    "é",
    "0",
]
CONTENT = st.lists(st.sampled_from(PIECES), max_size=4).flatmap(
    lambda before: st.lists(st.sampled_from(PIECES), max_size=4).map(
        lambda after: "".join(before) + CANARY + "".join(after)
    )
)
STANDARD_STRINGS = CONTENT.map(quoted)
NO_BACKSLASH = CONTENT.map(lambda text: text.replace("\\", ""))


def _dollar(content: str) -> str:
    tag = next(tag for tag in ("", "t", "t_1", "täg", "unlikely") if f"${tag}$" not in content + "$")
    return f"${tag}${content}${tag}$"


def _escaped(quote: str) -> Any:
    return lambda content: quote + content.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


def _doubled(quote: str) -> Any:
    return lambda content: quote + content.replace("\\", "\\\\").replace(quote, quote * 2) + quote


def _oracle(content: str) -> str:
    for opening, closing in ("[]", "{}", "()", "<>", "!!", "||"):
        if closing + "'" not in content + "'" and not (opening == closing and content.endswith(closing)):
            return f"q'{opening}{content}{closing}'"
    return quoted(content)


NUMBERS = st.sampled_from(
    [form.replace("N", NUMBER) for form in ("N", "-N", "+N", "N.5", "0.N", ".N", "N.", "1eN", "Ne-3", "1.5E+N", "-.N")]
)
LITERALS: dict[str, Any] = {
    "postgresql": st.one_of(
        STANDARD_STRINGS,
        CONTENT.map(_dollar),
        CONTENT.map(_escaped("'")).map(lambda text: "E" + text),
        CONTENT.map(_doubled("'")).map(lambda text: "e" + text),
        NO_BACKSLASH.map(quoted).map(lambda text: "U&" + text),
        STANDARD_STRINGS.map(lambda text: "N" + text),
        NUMBERS,
        st.sampled_from(["8_675_309", "0xDEADBEEF", "0b10101", "0o7654", "x'8675309'", "B'10101'", "ARRAY[8675309]"]),
    ),
    "sqlite": st.one_of(STANDARD_STRINGS, NUMBERS, st.sampled_from(["0xDEADBEEF", "x'8675309'"])),
    "mysql": st.one_of(
        CONTENT.map(_escaped("'")),
        CONTENT.map(_doubled("'")),
        CONTENT.map(_escaped('"')),
        CONTENT.map(_doubled('"')),
        CONTENT.map(_escaped("'")).map(lambda text: "_utf8mb4" + text),
        NUMBERS,
        st.sampled_from(["0xDEADBEEF", "x'8675309'", "b'10101'", "0b10101"]),
    ),
    "mssql": st.one_of(
        STANDARD_STRINGS,
        STANDARD_STRINGS.map(lambda text: "N" + text),
        NUMBERS,
        st.sampled_from(["0xDEADBEEF", "$8675309", "-$8675309.12", "£8675309"]),
    ),
    "oracle": st.one_of(
        STANDARD_STRINGS,
        CONTENT.map(_oracle),
        CONTENT.map(_oracle).map(lambda text: "n" + text.replace("q'", "Q'", 1)),
        NUMBERS,
        st.sampled_from(["8675309f", "8675309.5D"]),
    ),
}
LITERALS["mariadb"] = LITERALS["mysql"]
LITERALS["something"] = st.one_of(STANDARD_STRINGS, NUMBERS)

# Comments and quoted names that hold what would open a literal.
NOISE: dict[str, list[str]] = {
    "postgresql": ["/* it's */", "-- it's\n", '"it\'s"', "/* outer /* inner */ it's */", "a$b$c"],
    "sqlite": ["/* it's */", "-- it's\n", '"it\'s"', "`it's`", "[it's]", "/* /* it's */"],
    "mysql": ["/* it's */", "-- it's\n", "# it's\n", "`it's`", "`a\\`", "5--1", "/* /* it's */"],
    "mssql": ["/* it's */", "-- it's\n", '"it\'s"', "[it's]", "[a]]'b]", "/* outer /* inner */ it's */"],
    "oracle": ["/* it's */", "-- it's\n", '"it\'s"'],
    "something": ["/* it's */", "-- it's\n", '"it\'s"'],
}
NOISE["mariadb"] = NOISE["mysql"]
BETWEEN = [
    " = ",
    " ,",
    " (",
    ") ",
    "\n",
    " AND x IN (",
    " || ",
    " LIKE",
    "=",
    " BETWEEN ",
    " + ",
    " AS t1 ",
    " col_2 = ",
]
LEAKS = re.compile(f"{CANARY}|{NUMBER}|8_675_309|DEADBEEF|10101|7654", re.IGNORECASE)


@st.composite
def statements(draw: Any) -> tuple[str, str]:
    """A dialect and a statement of literals, comments, quoted names and operators in any order."""
    dialect = draw(st.sampled_from(DIALECTS))
    parts = [
        draw(st.sampled_from(["SELECT ", "SELECT a FROM t WHERE b", "INSERT INTO t VALUES ", "UPDATE t SET a = "]))
    ]
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            parts += [" ", draw(st.sampled_from(NOISE[dialect])), " "]
        literal = draw(LITERALS[dialect])
        parts += [draw(st.sampled_from(BETWEEN)), "" if literal[0] in "'.+-" else " ", literal]
    return dialect, "".join(parts)


@given(statements())
@example(("postgresql", f"SELECT a FROM t WHERE b LIKE'50\\%\\' AND c = '{CANARY}'"))
@example(("mysql", f"SELECT a # it's\n FROM t WHERE b = '{CANARY}'"))
@example(("sqlite", f"SELECT `it's` FROM t WHERE b = '{CANARY}'"))
@example(("postgresql", f"SELECT a FROM t WHERE b = $t1${CANARY}$t1$"))
@example(("postgresql", f"SELECT /* a /* b */ it's */ '{CANARY}'"))
@example(("mssql", f"SELECT /* a /* b */ it's */ '{CANARY}'"))
@example(("oracle", f"SELECT q'[it's {CANARY}]' FROM dual"))
@example(("postgresql", f"SELECT a[1:{NUMBER}]"))
@example(("sqlite", f"SELECT a FROM t WHERE b = .{NUMBER}"))
@example(("mysql", f"SELECT 5--'a\n b' , '{CANARY}'"))
def test_no_literal_ever_survives(made: tuple[str, str]) -> None:
    """In no dialect's quotes, behind no comment and no quoted name; text and summary alike."""
    dialect, sql = made
    found = statement(sql, dialect)
    assert not LEAKS.search(found.text), found.text
    assert not LEAKS.search(found.summary), found.summary


@given(statements(), st.integers(0, 300))
def test_a_statement_that_was_cut_shows_no_literal_either(made: tuple[str, str], length: int) -> None:
    """An open quote runs to the end."""
    dialect, sql = made
    assert CANARY not in statement(sql[:length], dialect).text


@given(st.text(), st.sampled_from(DIALECTS))
def test_any_text_is_read_without_an_error(sql: str, dialect: str) -> None:
    """Text that is no SQL still has an operation and a summary."""
    found = statement(sql, dialect)
    assert found.operation
    assert found.summary
    assert len(found.text) <= 4096
    assert len(found.summary) <= 255


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "sql", ["SELECT '" + "a" * 5_000_000, "SELECT " + "(" * 200_000, "/*" * 300_000, "$a" * 100_000]
)
def test_a_huge_statement_takes_no_time(dialect: str, sql: str) -> None:
    """Neither by its length nor by backtracking."""
    import time

    began = time.process_time()
    statement(sql, dialect)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("sql", "dialect", "text", "summary"),
    [
        ("SELECT 1", "sqlite", "SELECT ?", "SELECT"),
        (
            "select id, name from users where id = 5",
            "sqlite",
            "select id, name from users where id = ?",
            "SELECT users",
        ),
        ("SELECT * FROM a JOIN b ON a.id=b.a_id", "postgresql", "SELECT * FROM a JOIN b ON a.id=b.a_id", "SELECT a b"),
        ("INSERT INTO t (a, b) VALUES (?, ?)", "sqlite", "INSERT INTO t (a, b) VALUES (?, …)", "INSERT t"),
        ("INSERT INTO t VALUES (%s, %s, %s)", "postgresql", "INSERT INTO t VALUES (?, …)", "INSERT t"),
        ("INSERT INTO t VALUES (%(a)s, %(b)s)", "postgresql", "INSERT INTO t VALUES (?, …)", "INSERT t"),
        ("SELECT a FROM t WHERE a IN ($1, $2, $3)", "postgresql", "SELECT a FROM t WHERE a IN (?, …)", "SELECT t"),
        (
            "SELECT a FROM t WHERE a IN ($1::INTEGER, $2::INTEGER[])",
            "postgresql",
            "SELECT a FROM t WHERE a IN (?, …)",
            "SELECT t",
        ),
        (
            "INSERT INTO t VALUES ($1::VARCHAR(20), $2::NUMERIC(10, 2), $3::TIMESTAMP(6) WITHOUT TIME ZONE)",
            "postgresql",
            "INSERT INTO t VALUES (?, …)",
            "INSERT t",
        ),
        (
            "INSERT INTO t VALUES (%(a__0)s::VARCHAR, 1), (%(a__1)s::VARCHAR, 2)",
            "postgresql",
            "INSERT INTO t VALUES (?, …), …",
            "INSERT t",
        ),
        ("SELECT a FROM t WHERE a = $1", "postgresql", "SELECT a FROM t WHERE a = $1", "SELECT t"),
        (
            "SELECT a FROM t WHERE a = :1 AND b = :name",
            "oracle",
            "SELECT a FROM t WHERE a = :1 AND b = :name",
            "SELECT t",
        ),
        ("SELECT '2020'::date", "postgresql", "SELECT ?::date", "SELECT"),
        (
            "SELECT t1.c2 FROM t1 WHERE t1.c2 IN (1,2,3)",
            "mysql",
            "SELECT t1.c2 FROM t1 WHERE t1.c2 IN (?, …)",
            "SELECT t1",
        ),
        ('SELECT * FROM "order"', "postgresql", 'SELECT * FROM "order"', "SELECT order"),
        ("SELECT * FROM `order`", "mysql", "SELECT * FROM `order`", "SELECT order"),
        ("SELECT * FROM [order]", "mssql", "SELECT * FROM [order]", "SELECT order"),
        ("DELETE FROM s.t", "sqlite", "DELETE FROM s.t", "DELETE s.t"),
        ("UPDATE ONLY t SET a = 'x'", "postgresql", "UPDATE ONLY t SET a = ?", "UPDATE t"),
        (
            "CREATE TABLE IF NOT EXISTS t (id INTEGER)",
            "sqlite",
            "CREATE TABLE IF NOT EXISTS t (id INTEGER)",
            "CREATE t",
        ),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "sqlite", None, "INSERT x"),
        ("  \n (SELECT a\n\tFROM  t)", "sqlite", "(SELECT a FROM t)", "SELECT t"),
        ("BEGIN", "sqlite", "BEGIN", "BEGIN"),
        ("PRAGMA table_info('t')", "sqlite", "PRAGMA table_info(?)", "PRAGMA"),
        ("", "sqlite", "", "SQL"),
    ],
)
def test_text_and_summary(sql: str, dialect: str, text: str | None, summary: str) -> None:
    """Names stay, literals go, lists of parameters are one; the summary is operation and targets."""
    found = statement(sql, dialect)
    if text is not None:
        assert found.text == text
    assert found.summary.split()[0] == summary.split()[0]
    assert set(summary.split()) <= set(found.summary.split())


def test_statements_that_differ_in_literals_alone_are_one() -> None:
    """What makes them countable."""
    assert statement("SELECT a FROM t WHERE b = 'x' AND c = 1", "sqlite") == statement(
        "SELECT a FROM t WHERE b = 'yyy' AND c = 22", "sqlite"
    )


def test_rows_that_are_cut_are_one_text() -> None:
    """Wherever the cut falls."""
    for more in range(12):
        rows = ", ".join(f"(%(a__{number}{'x' * more})s::VARCHAR(20), %(b__{number})s)" for number in range(2000))
        assert statement(f"INSERT INTO t (a, b) VALUES {rows}", "postgresql").text == (
            "INSERT INTO t (a, b) VALUES (?, …), …"
        )


@pytest.mark.parametrize("count", [1, 2, 500])
def test_a_list_of_any_length_is_one_text(count: int) -> None:
    """`IN` with literals must not make a series a length either."""
    text = statement(f"SELECT a FROM t WHERE b IN ({', '.join(['7'] * count)})", "sqlite").text
    assert text == ("SELECT a FROM t WHERE b IN (?)" if count == 1 else "SELECT a FROM t WHERE b IN (?, …)")
