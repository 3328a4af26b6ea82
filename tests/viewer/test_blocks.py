"""A search by an attribute looks through the blocks of spans that can have it, and finds what a scan finds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from otelkit.viewer import blocks
from otelkit.viewer.decode_spans import decode_spans
from otelkit.viewer.edges import Edges
from otelkit.viewer.envelope import Batch
from otelkit.viewer.filter import parse
from otelkit.viewer.reading import traces as listing
from otelkit.viewer.reading.asking import Question, reading
from otelkit.viewer.reading.candidates import candidates
from otelkit.viewer.span_facts import PROMOTED
from otelkit.viewer.store import Bounds, Store
from otelkit.viewer.values import Attributes
from otelkit.viewer.writer import Writer
from tests.viewer.backend import span, spans_request

VALUES = (0, -0.0, 7, 7.0, "7", "07", 1234567890123456789, 1e22, 0.5, True, "true", "", 'a"b', "a*b", "ü", ["x"], "a b")
ASKED = ("0", "-0", "7", "7.0", "07", "7e0", "1234567890123456789", "1e22", "0.5", ".5", "true", "false", '""', "x",
         '"a\\"b"', '"a*b"', "a*", "ü", '"a b"', "none")  # fmt: skip


def written(store: Store, *requests: Any) -> None:
    """Writes requests as they are written together."""
    known = Attributes(PROMOTED)
    writer = object.__new__(Writer)
    writer._edges = Edges()
    taken = []
    for request in requests:
        batch = Batch()
        decode_spans(request.SerializeToString(), known, batch)
        batch.settle()
        taken.append((batch.parts, batch.edges, 0))
    store.write(writer._joined(taken))


def listed(store: Store, query: str) -> list[str]:
    """The ids of the traces that a filter lists."""
    with reading(store) as cursor:
        found = listing.traces(cursor, Question(filter=parse(query), limit=500))
    return [each["trace_id"] for each in found["traces"]]


@pytest.mark.slow
def test_what_is_found_is_what_a_scan_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, texts and truth values as they are written in either way, of spans and of resources, in several slices,
    alone and together; also after a restart."""
    chance = random.Random(5)
    store = Store(tmp_path / "db", Bounds(rows=10_000), say=print)
    number = 0
    for _ in range(5):
        requests = []
        for _ in range(4):
            spans = []
            for _ in range(chance.choice((1, 40, 300, 700))):
                number += 1
                picked: dict[str, Any] = {key: chance.choice(VALUES) for key in "ab" if chance.random() < 0.02}
                spans.append(span("x", trace=1 + number // 3, number=number, n=number, plan="pro", **picked))
            requests.append(spans_request(*spans, service=f"s{chance.randrange(3)}", zone=chance.choice(("7", "no"))))
        written(store, *requests)
    store.close()
    store = Store(tmp_path / "db", Bounds(rows=10_000), say=print)
    written(store, spans_request(span("x", trace=900_000, number=900_000, a=7, n=900_000)))
    assert len(store.slices) > 3
    queries = [f"a:{value}" for value in ASKED]
    queries += ["a:7 b:7", "a:7 OR b:true", "-a:7", "a:7 -b:true", "a:7 a!=true", "zone:7", "zone:7 a:7", "n:17",
                "n:900000", "n:17 OR n:4000", "name:x a:7", "(a:7 OR declined) n:5", "a:7 service:s1",
                "plan:pro a:true", "a>6", "b:*"]  # fmt: skip
    found = {query: listed(store, query) for query in queries}
    monkeypatch.setattr(listing, "candidates", lambda *_: None)
    assert found == {query: listed(store, query) for query in queries}
    assert sum(map(bool, found.values())) > 25
    store.close()


def test_of_many_blocks_those_with_the_value_are_looked_through(tmp_path: Path) -> None:
    """One of forty for a value that is there once; a filter that says nothing of attributes has no blocks."""
    store = Store(tmp_path / "db", Bounds(), say=print)
    for place in range(10):
        many = [span("x", number=n + 1, trace=n + 1, user=place * 1200 + n, plan="pro") for n in range(1200)]
        written(store, spans_request(*many, service="shop"))
    with reading(store) as cursor:
        (every,) = cursor.one("SELECT count(DISTINCT block) FROM viewer.spans")
        (kept,) = cursor.one("SELECT count(*) FROM viewer.attribute_blocks")
        found = {query: candidates(cursor, parse(query)) for query in ("user:4711", "plan:pro", "user:-1", "name:x")}
    assert 12_000 / (2 * blocks.SPANS) <= every <= 12_000 / blocks.SPANS + 10
    assert kept == 12_000 + every
    assert {query: each if each is None else len(each) for query, each in found.items()} == {
        "user:4711": 1, "plan:pro": every, "user:-1": 0, "name:x": None
    }  # fmt: skip
    store.close()


def test_small_requests_share_a_block(tmp_path: Path) -> None:
    """What all spans have is noted once of them, and not once a request."""
    store = Store(tmp_path / "db", Bounds(), say=print)
    for n in range(10):
        written(store, spans_request(span("x", number=n + 1, trace=n + 1, plan="pro", region="eu")))
    with reading(store) as cursor:
        assert cursor.one("SELECT count(*), count(DISTINCT block) FROM viewer.attribute_blocks") == (2, 1)
    store.close()


def test_after_a_write_that_failed_nothing_is_missed(tmp_path: Path) -> None:
    """What was noted of the block that could not be written is noted again."""
    store = Store(tmp_path / "db", Bounds(), say=print)
    written(store, spans_request(span("x", number=1, trace=1, a="first")))
    insert = store._insert

    def failing(current: Any, table: str, rows: Any) -> None:
        insert(current, table, rows)
        if table == "attribute_blocks":
            raise duckdb.IOException("no space left")

    store._insert = failing  # type: ignore[method-assign]
    with pytest.raises(duckdb.IOException):
        written(store, spans_request(span("x", number=2, trace=2, a="second")))
    store._insert = insert  # type: ignore[method-assign]
    written(store, spans_request(span("x", number=3, trace=3, a="second")))
    assert listed(store, "a:second") == [f"{3:032x}"]
    store.close()


def test_a_block_with_too_many_attributes_is_always_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million distinct keys take no million rows."""
    monkeypatch.setattr(blocks, "_MOST_HASHES", 100)
    store = Store(tmp_path / "db", Bounds(), say=print)
    many: dict[str, Any] = {f"k{n}": n for n in range(101)}
    written(store, spans_request(span("x", trace=1, **many)))
    with reading(store) as cursor:
        assert cursor.one("SELECT count(*) FROM viewer.attribute_blocks") == (1,)
    assert listed(store, "k57:57") == [f"{1:032x}"]
    store.close()
