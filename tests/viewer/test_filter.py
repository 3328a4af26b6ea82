"""The filter language: whatever is typed is understood or refused with a place, and is the same when written again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelkit.viewer.decode_spans import decode_spans
from otelkit.viewer.envelope import Batch
from otelkit.viewer.filter import And, Compare, Filter, FilterError, Not, Or, Text, Value, parse
from otelkit.viewer.filter_sql import condition, of_trace
from otelkit.viewer.span_facts import PROMOTED
from otelkit.viewer.store import Bounds, Store
from otelkit.viewer.values import Attributes
from tests.viewer.backend import span, spans_request

KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_./-]{0,8}", fullmatch=True)
BARE = st.from_regex(r"[A-Za-z0-9_./{}*%'\\?-]{1,8}", fullmatch=True)
QUOTED = st.text(max_size=8).map(lambda text: Value(text, quoted=True))
VALUES = st.one_of(BARE.map(Value), QUOTED)
TEXTS = st.one_of(
    BARE.filter(lambda text: text not in ("OR", "AND") and not text.startswith("-")).map(Value), QUOTED
).map(Text)
TERMS = st.one_of(TEXTS, st.builds(Compare, KEYS, st.sampled_from((":", "!=", ">", ">=", "<", "<=")), VALUES))


def several(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    """All, one, or none of some filters."""
    many = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.one_of(many.map(And), many.map(Or), parts.map(Not))


FILTERS = st.recursive(TERMS, several, max_leaves=8)


@given(FILTERS)
def test_a_filter_that_is_written_out_is_the_same_when_read(found: Filter) -> None:
    """Brackets, quotes and all."""
    assert parse(str(found)) == found


@given(st.text(max_size=60) | st.text('ab:"()-OR \\*><=!', max_size=60))
def test_any_text_is_a_filter_or_a_filter_error(query: str) -> None:
    """With a place that is in it; and as SQL the same."""
    try:
        found = parse(query)
        for target in ("spans", "logs"):
            condition(found, target)
    except FilterError as error:
        at = error.at
    else:
        at = 0
    assert 0 <= at <= len(query)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """An empty store in memory."""
    made = Store(None, Bounds(), say=print)
    yield made
    made.close()


@given(found=FILTERS)
def test_what_a_filter_becomes_is_sql(store: Store, found: Filter) -> None:
    """Whatever stands in it: it has as many parameters as places, and the database understands it."""
    with store.cursor() as cursor:
        for target in ("spans", "logs"):
            try:
                sql, values = condition(found, target)
            except FilterError:
                continue
            assert sql.count("?") == len(values)
            cursor.execute(f"SELECT count(*) FROM viewer.{target} WHERE {sql}", values)


@pytest.fixture(scope="module")
def numbered() -> Iterator[Store]:
    """A store with a span for each kind of value."""
    made = Store(None, Bounds(), say=print)
    values: list[dict[str, Any]] = [{"a.b": 5}, {"aXb": 5}, {"a.b": "5"}, {"a.b": 5.0}, {"a.b": 51}, {"a.b": "5.0"},
                                    {"a.b": "5x"}, {"a.b": True}, {"a.b": "(5)"}]  # fmt: skip
    request = spans_request(*(span(str(n), number=n + 1, **each) for n, each in enumerate(values)))
    batch = Batch()
    decode_spans(request.SerializeToString(), Attributes(PROMOTED), batch)
    batch.settle()
    made.write(batch.parts[0])
    yield made
    made.close()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("a.b:5", "0235"),
        ("-a.b:5", "14678"),
        ("a.b:5.0", "035"),
        ("a.b!=5", "14678"),
        ("a.b>4", "02345"),
        ("a.b:5*", "02345 6"),
        ("a.b:true", "7"),
        ('a.b:"(5)"', "8"),
        ("a.b:* -a.b:true", "0234568"),
        ("(a.b:5 OR aXb:5)", "01235"),
    ],
)
def test_an_attribute_is_found_by_its_value(numbered: Store, query: str, names: str) -> None:
    """A number as a number and as a text, and what has no such attribute by what is negated."""
    sql, values = condition(parse(query), "spans")
    with numbered.cursor() as cursor:
        rows = cursor.execute(f"SELECT name FROM viewer.spans WHERE {sql} ORDER BY name", values).fetchall()
    assert "".join(name for (name,) in rows) == names.replace(" ", "")


@pytest.mark.parametrize(
    ("query", "at"),
    [("a:", 2), ('"open', 0), ("(a", 0), ("a)", 1), ("a OR", 4), ("OR a", 0), ("()", 0), ("x -)", 2), ("(" * 30, 21)],
)
def test_an_error_says_where(query: str, at: int) -> None:
    """The page underlines it."""
    with pytest.raises(FilterError) as error:
        parse(query)
    assert error.value.at == at


@pytest.mark.parametrize("query", ["duration>x", "status:bad", "trace:zz", "severity>=warn", "name>5", "x>abc"])
def test_a_value_that_a_key_cannot_have_is_an_error(query: str) -> None:
    """Of spans."""
    with pytest.raises(FilterError):
        condition(parse(query), "spans")


def test_negated_terms_at_the_top_are_of_no_span_of_the_trace() -> None:
    """The others are of one span."""
    wanted, unwanted = of_trace(parse("service:a -name:b kind!=server (c OR -d)"))
    assert str(wanted) == "service:a (c OR -d)"
    assert [str(each) for each in unwanted] == ["name:b", "kind:server"]


def test_nothing_that_is_typed_is_text_of_the_statement(store: Store) -> None:
    """Quotes, semicolons and percent signs are parameters."""
    began = time.monotonic()
    for query in ('name:"\'; DROP VIEW spans; --"', '"%"', "x.y'z:1", 'a:"\\""'):
        sql, values = condition(parse(query), "spans")
        assert "DROP" not in sql
        assert values
    assert time.monotonic() - began < 5
