"""A search that is told as it goes on: what is found comes at once, newest first, and who leaves ends it."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import duckdb
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelkit.viewer import searching
from otelkit.viewer.filter import parse
from otelkit.viewer.reading import backwards
from otelkit.viewer.reading.asking import Cursor, Question, reading
from otelkit.viewer.reading.traces import found_traces, traces
from otelkit.viewer.searching import SearchAnswer, Searches
from otelkit.viewer.store import Bounds, Store
from tests.viewer.backend import Backend, running_backend, span, spans_request
from tests.viewer.test_blocks import written

NOW = time.time() - 3600
TRACES = 60_000
SLOW = [f"no{n}*y" for n in range(250)]
"""Never true; all of them together are many seconds of work for what the backend has."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend with 60,000 traces of a span and as many log records, one of a hundred of which is odd."""
    with running_backend(tmp_path_factory.mktemp("full")) as backend:
        for first in range(0, TRACES, 2_000):
            made = []
            logs = ExportLogsServiceRequest()
            records = logs.resource_logs.add().scope_logs.add().log_records
            for number in range(first, first + 2_000):
                at = NOW + number / 100
                odd = number % 100 == 0
                made.append(span("odd" if odd else "x", trace=1 + number, number=1, start_s=at, x=f"value {number}"))
                records.add(time_unix_nano=int(at * 1e9)).body.string_value = f"{'odd' if odd else 'plain'} {number}"
            backend.send(spans_request(*made))
            backend.send(logs)
        backend.wait_for_rows(spans=TRACES, logs=TRACES)
        yield backend


def begun(backend: Backend, question: str, **asked: Any) -> tuple[http.client.HTTPConnection, Any]:
    """A connection with the answer to a search on it."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(backend.url).netloc, timeout=60)
    connection.request("GET", f"/api/v1/search/{question}?{urllib.parse.urlencode(asked)}")
    return connection, connection.getresponse()


def lines(backend: Backend, question: str, **asked: Any) -> list[dict[str, Any]]:
    """All lines of a search."""
    connection, answer = begun(backend, question, **asked)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    found = [json.loads(line) for line in answer]
    connection.close()
    return found


def connections(backend: Backend) -> int:
    """How many connections to its database there are."""
    query = {"query": "SELECT * FROM duckdb_connection_count()"}
    answer = backend.ask("/api/v1/sql", body=json.dumps(query).encode(), method="POST")
    return int(answer.json["rows"][0][0])


@pytest.mark.parametrize(("kind", "query", "id"), [("traces", "name:odd", "trace_id"), ("logs", "odd", "id")])
def test_a_search_finds_what_the_list_has_newest_first(full: Backend, kind: str, query: str, id: str) -> None:
    """In several lines, which say how much was looked through and how far back; none says less than the one before."""
    told = lines(full, kind, q=query, limit=500)
    found = [each for line in told for each in line[kind]]
    assert found == full.get(kind, q=query, limit=500)[kind]
    assert len({each[id] for each in found}) == 500
    assert len(told) > 2
    assert [line["searched"] for line in told] == sorted(line["searched"] for line in told)
    assert [line["back_to_ms"] for line in told] == sorted((line["back_to_ms"] for line in told), reverse=True)
    rest = lines(full, kind, q=query, limit=500, before=told[-1]["next"])
    assert len([each for line in rest for each in line[kind]]) == TRACES / 100 - 500
    assert (rest[-1]["searched"], rest[-1]["next"]) == (1, None)


def test_what_is_found_is_told_before_the_search_has_ended(full: Backend) -> None:
    """And each line can be gone on from."""
    began = time.monotonic()
    connection, answer = begun(full, "traces", q=" OR ".join(["name:odd", *SLOW[:100]]), limit=500)
    first = json.loads(answer.readline())
    first_s = time.monotonic() - began
    rest = [json.loads(line) for line in answer]
    assert first["traces"][0]["name"] == "odd"
    assert first["searched"] < 0.1
    assert first_s < (time.monotonic() - began) / 2
    connection.close()
    (again,) = lines(full, "traces", q="name:odd", before=first["next"], limit=1)
    assert again["traces"] == rest[0]["traces"][:1]


def test_a_search_that_is_left_ends_and_frees_its_connection(full: Backend) -> None:
    """Six of them at once; afterwards the viewer does nothing."""
    before = connections(full)
    left = [begun(full, "traces", q=" OR ".join(SLOW)) for _ in range(6)]
    for _, answer in left:
        assert json.loads(answer.readline())["searched"] < 0.5
    assert connections(full) == before + 6
    for connection, answer in left:
        answer.close()
        connection.close()
    full.wait(lambda: connections(full) == before, "the connections are free again", 5)
    viewer = psutil.Process(full.process.pid)
    used = sum(viewer.cpu_times()[:2])
    time.sleep(0.5)
    assert sum(viewer.cpu_times()[:2]) - used < 0.2


def test_what_cannot_be_searched_for_is_400(full: Backend) -> None:
    """As of the list, with the place in the filter."""
    for path in ("search/traces?q=a:b+severity:warn", "search/logs?q=a:b+duration%3E1s"):
        answer = full.ask(f"/api/v1/{path}")
        assert (answer.status, answer.json["error"]["at"]) == (400, 4)
    assert full.ask("/api/v1/search/traces?limit=0").status == 400
    assert full.ask("/api/v1/search/metrics").status == 404


def _endless(cursor: Cursor) -> Iterator[dict[str, Any]]:
    yield {"found": 1}
    yield {"found": cursor.one("SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b")}


def test_the_statement_of_a_search_that_is_stopped_ends_at_once() -> None:
    """And so does one that has not begun; the store can be closed."""
    store = Store(None, Bounds(), say=print)
    searches = Searches(store)
    try:
        with reading(store) as cursor:
            (before,) = cursor.one("SELECT * FROM duckdb_connection_count()")
            working = searches.begin(_endless)
            assert working.next().result(5) == {"found": 1}
            part = working.next()
            _until(part.running)
            time.sleep(0.1)
            began = time.monotonic()
            working.stop()
            with pytest.raises(duckdb.InterruptException):
                part.result(10)
            assert time.monotonic() - began < 2
            others = [searches.begin(_endless) for _ in range(8)]
            parts: list[Future[Any]] = [each.next() for each in others]
            assert [each.result(10) for each in parts] == [{"found": 1}] * 8
            parts = [each.next() for each in others]  # half of them wait for a thread
            for each in others:
                each.stop()
            _until(lambda: all(each.done() for each in parts))
            _until(lambda: cursor.one("SELECT * FROM duckdb_connection_count()") == (before,))
    finally:
        searches.close()
        store.close()


def test_a_statement_that_is_about_to_begin_ends_too() -> None:
    """DuckDB forgets an interruption that comes too early by a moment."""
    store = Store(None, Bounds(), say=print)
    searches = Searches(store)
    try:
        for number in range(100):
            working = searches.begin(_endless)
            assert working.next().result(5) == {"found": 1}
            part = working.next()
            time.sleep(number % 25 * 0.0001)
            working.stop()
            if not part.cancelled():
                assert isinstance(part.exception(5), duckdb.InterruptException)
    finally:
        searches.close()
        store.close()


def _until(ask: Any) -> None:
    end = time.monotonic() + 10
    while not ask():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_part_that_takes_too_long_is_said_in_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found before it has been told."""
    monkeypatch.setattr(searching, "LONGEST_S", 0.3)
    store = Store(None, Bounds(), say=print)
    searches = Searches(store)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(SearchAnswer(searches, _endless)({"type": "http"}, receive, send))
    searches.close()
    store.close()
    told = b"".join(message.get("body", b"") for message in sent).splitlines()
    assert [json.loads(line) for line in told] == [
        {"found": 1},
        {"error": {"message": "this takes too long: ask for a shorter time"}},
    ]
    assert sent[-1].get("more_body", False) is False


QUERIES = ("", "a:1", "-a:1", "a!=1", "a>1", "a:1 b:1", "a:1 -b:1", "-a:1 -b:1", "(a:1 OR b:0)", "a:9", "a:1 OR b:*")
_SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=4)
_KEPT = st.lists(st.tuples(st.integers(0, 40), _SPANS), max_size=12)


def _matches(spans: list[tuple[int, int, int]], query: str) -> bool:
    """What docs/viewer/api.md says of a trace, of spans with an `a` and a `b` each."""

    def one(ask: Any) -> bool:
        return any(ask(a, b) for _, a, b in spans)

    return {
        "": True,
        "a:1": one(lambda a, b: a == 1),
        "-a:1": not one(lambda a, b: a == 1),
        "a!=1": not one(lambda a, b: a == 1),
        "a>1": one(lambda a, b: a > 1),
        "a:1 b:1": one(lambda a, b: a == b == 1),
        "a:1 -b:1": one(lambda a, b: a == 1) and not one(lambda a, b: b == 1),
        "-a:1 -b:1": not one(lambda a, b: 1 in (a, b)),
        "(a:1 OR b:0)": one(lambda a, b: a == 1 or b == 0),
        "a:9": False,
        "a:1 OR b:*": True,
    }[query]


@settings(deadline=None, max_examples=40)
@given(_KEPT, st.sampled_from(QUERIES), st.integers(1, 5), st.randoms(use_true_random=False))
def test_whatever_the_windows_the_pages_have_each_trace_that_matches_once(
    kept: list[tuple[int, list[tuple[int, int, int]]]], query: str, limit: int, chance: Any
) -> None:
    """Traces that overlap, begin together, and come in parts and in any order; by pages, by parts, from any part on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backwards, "_FIRST_ROWS", 2)
        patch.setattr(backwards, "_GROWTH", 1.5)
        patch.setattr("otelkit.viewer.reading.traces._FEW_BLOCKS", chance.choice((0, 1000)))
        spans_a_block = chance.choice((1, 2, 256))
        patch.setattr("otelkit.viewer.blocks.SPANS", spans_a_block)
        patch.setattr("otelkit.viewer.envelope.SPANS", spans_a_block)
        store = Store(None, Bounds(), say=print)
        made = [
            span("x", trace=1 + place, number=1 + 100 * place + n, start_s=1e9 + start + after, a=a, b=b)
            for place, (start, spans) in enumerate(kept)
            for n, (after, a, b) in enumerate(spans)
        ]
        chance.shuffle(made)
        while made:
            some = chance.randint(1, 5)
            written(store, spans_request(*made[:some]))
            made = made[some:]
        starts = [
            (-(start + min(after for after, _, _ in spans)), f"{1 + place:032x}")
            for place, (start, spans) in enumerate(kept)
            if _matches(spans, query)
        ]
        expected = [found for _, found in sorted(starts)]
        with reading(store) as cursor:
            assert _paged(cursor, query, limit, lambda asked: [traces(cursor, asked)]) == expected
            assert _paged(cursor, query, limit, lambda asked: found_traces(cursor, asked)) == expected
            # From the first part on, as after a search that was stopped.
            assert _paged(cursor, query, limit, lambda asked: [next(found_traces(cursor, asked))]) == expected
        store.close()


def test_of_a_time_in_which_spans_but_no_trace_began_nothing_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though there are more blocks that can have what is asked for than the page has traces."""
    monkeypatch.setattr("otelkit.viewer.blocks.SPANS", 1)
    monkeypatch.setattr("otelkit.viewer.envelope.SPANS", 1)
    store = Store(None, Bounds(), say=print)
    written(store, spans_request(*(span("x", trace=1, number=1 + n, start_s=1e9 + 10 * n, a=1) for n in range(4))))
    with reading(store) as cursor:
        asked = Question(filter=parse("a:1"), limit=1, from_ns=int((1e9 + 5) * 1e9))
        assert list(found_traces(cursor, asked)) == [
            {"traces": [], "next": None, "searched": 1.0, "back_to_ms": (1e9 + 5) * 1e3}
        ]
    store.close()


def _paged(cursor: Cursor, query: str, limit: int, ask: Any) -> list[str]:
    found: list[str] = []
    before: str | None = None
    while True:
        parts = list(ask(Question(filter=parse(query), limit=limit, before=before)))
        page = [each["trace_id"] for part in parts for each in part["traces"]]
        assert len(page) <= limit
        found += page
        before = parts[-1]["next"]
        if before is None:
            return found
