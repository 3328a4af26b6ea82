"""The query API, version 1 (docs/viewer/api.md): every answer is JSON, an error is `{"error": {"message": …}}`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import duckdb
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from otelkit.viewer.filter import LONGEST, And, FilterError, parse
from otelkit.viewer.filter_sql import condition
from otelkit.viewer.reading import (
    completion,
    errors,
    export,
    health,
    logs,
    metrics,
    queries,
    red,
    service_map,
    services,
    sql,
    trace,
    traces,
)  # fmt: skip
from otelkit.viewer.reading.asking import LATEST_NS, MOST_ROWS, TOO_LARGE, TOO_LONG, Cursor, Question, reading
from otelkit.viewer.searching import Search, SearchAnswer
from otelkit.viewer.store import Store

_CURSOR = re.compile(r"\d{1,19}(-[0-9a-f]{1,32})?")
Answer = Callable[[Cursor, Request], Any]


class Refused(Exception):
    """A request that has no answer; `status` says why."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def question(request: Request) -> Question:
    """The parameters that all lists have.

    Raises Refused and FilterError.
    """
    found = request.query_params
    limit = _number(found.get("limit"), 100)
    if not 1 <= limit <= MOST_ROWS:
        raise Refused(f"limit is 1 to {MOST_ROWS}")
    before = found.get("before")
    if before and not _CURSOR.fullmatch(before):
        raise Refused("before is a cursor that a list has answered as next")
    return Question(
        from_ns=_ns(found.get("from"), 0),
        to_ns=_ns(found.get("to"), LATEST_NS),
        filter=parse(found.get("q", "")),
        limit=int(limit),
        before=before or None,
    )


def _number(text: str | None, default: float) -> float:
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        raise Refused(f"{text[:40]!r} is not a number") from None
    if not math.isfinite(number):
        raise Refused(f"{text[:40]!r} is not a number")
    return number


def _ns(text: str | None, default: int) -> int:
    return default if not text else max(0, min(int(_number(text, 0) * 1e6), LATEST_NS))


def json_answer(content: Any, status: int = 200) -> Response:
    """JSON in UTF-8; of what it has no number for (NaN) there is none in the store."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)
    headers = {"Cache-Control": "no-store"}
    return Response(text.encode("utf-8", "replace"), status, headers, media_type="application/json")


def error_answer(message: str, status: int, at: int | None = None) -> Response:
    """An error as every endpoint says it."""
    return json_answer({"error": {"message": message, **({} if at is None else {"at": at})}}, status)


def answering(answer: Answer) -> Callable[[Request], Response]:
    """An endpoint of a question; starlette runs it in a thread."""

    def endpoint(request: Request) -> Response:
        try:
            with reading(request.app.state.store) as cursor:
                return json_answer(answer(cursor, request))
        except FilterError as error:
            return error_answer(str(error), 400, error.at)
        except Refused as error:
            return error_answer(str(error), error.status)
        except duckdb.InterruptException:
            return error_answer(TOO_LONG, 503)
        except duckdb.OutOfMemoryException:
            return error_answer(TOO_LARGE, 503)

    return endpoint


def _trace(cursor: Cursor, request: Request) -> Any:
    trace_id = request.path_params["trace_id"].lower()
    try:
        encoded = bytes.fromhex(trace_id)
    except ValueError:
        encoded = b""
    if len(encoded) != 16:
        raise Refused("a trace's id has 32 hex digits")
    found = trace.trace(cursor, encoded)
    if found is None:
        raise Refused(f"there is no trace {trace_id}", 404)
    return found


def question_of_logs(request: Request) -> Question:
    """The same, with those that logs have.

    Raises Refused and FilterError.
    """
    asked = question(request)
    more = [f"{key}:{value}" for key in ("trace", "span") if (value := request.query_params.get(key))]
    if severity := request.query_params.get("severity"):
        more.append(f"severity>={severity}")
    return replace(asked, filter=And((asked.filter, parse(" ".join(more)))))


def _error(cursor: Cursor, request: Request) -> Any:
    found = errors.group(cursor, request.path_params["fingerprint"], question(request))
    if found is None:
        raise Refused("there is no such group of errors", 404)
    return found


def _metric(cursor: Cursor, request: Request) -> Any:
    found = request.query_params
    step_s = _number(found.get("step_s"), 0)
    if step_s and not 1 <= step_s <= 86_400:
        raise Refused("step_s is 1 to 86400")
    keys = [key for key in found.get("group_by", "").split(",") if key]
    name = request.path_params["name"]
    answer = metrics.metric(cursor, name, question(request), group_by=keys, step_s=step_s)
    if answer is None:
        raise Refused(f"there is no metric {name[:100]}", 404)
    return answer


def _red(cursor: Cursor, request: Request) -> Any:
    by = request.query_params.get("by", "route")
    if by not in ("route", "service"):
        raise Refused("by is route or service")
    return red.red(cursor, question(request), by_route=by == "route")


def _complete(cursor: Cursor, request: Request) -> Any:
    query = request.query_params.get("q", "")[:LONGEST]
    at = int(_number(request.query_params.get("at"), len(query)))
    return completion.complete(cursor, query, max(0, min(at, len(query))))


def _health(cursor: Cursor, request: Request) -> Any:
    state = request.app.state
    return {**health.health(cursor), "viewer": {**state.receiver.counted(), "dropped": state.dropped()}}


async def run_sql(request: Request) -> Response:
    """POST /api/v1/sql."""
    state = request.app.state
    if not state.info()["sql"]:
        return error_answer("SQL is answered on loopback alone", 403)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > 4 * sql.LONGEST:
            return error_answer(f"a statement has at most {sql.LONGEST} characters", 413)
    try:
        query = json.loads(body)["query"]
        if not isinstance(query, str):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        return error_answer('the body is {"query": "SELECT …"}', 400)
    return await run_in_threadpool(_selected, state.store, query)


def _selected(store: Store, query: str) -> Response:
    try:
        return json_answer(sql.select(store, query))
    except sql.NotAllowed as error:
        return error_answer(str(error), 400)
    except duckdb.InterruptException:
        return error_answer("this takes too long", 503)
    except duckdb.Error as error:
        return error_answer(str(error), 400)


def info(request: Request) -> Response:
    """GET /api/v1/info."""
    return json_answer(request.app.state.info())


async def live(request: Request) -> Response:
    """GET /api/v1/live."""
    try:
        found = parse(request.query_params.get("q", ""))
    except FilterError as error:
        return error_answer(str(error), 400, error.at)
    stream = request.app.state.live.events(found)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def export_lines(request: Request) -> Response:
    """GET /api/v1/export."""
    try:
        trace_id = bytes.fromhex(request.query_params.get("trace", ""))
        asked = question(request)
    except (ValueError, Refused) as error:
        return error_answer(str(error), 400)
    if len(trace_id) not in (0, 16):
        return error_answer("a trace's id has 32 hex digits", 400)
    lines = export.export(request.app.state.store, asked, trace_id or None)
    return StreamingResponse(lines, media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


def searching(search: Callable[[Request], Search]) -> Callable[[Request], Response]:
    """An endpoint that answers a list as it is found."""

    def endpoint(request: Request) -> Response:
        try:
            return SearchAnswer(request.app.state.searches, search(request))
        except FilterError as error:
            return error_answer(str(error), 400, error.at)
        except Refused as error:
            return error_answer(str(error), error.status)

    return endpoint


def _search_traces(request: Request) -> Search:
    asked = question(request)
    condition(asked.filter, "spans")  # whether it can be searched for, before the answer begins
    return partial(traces.found_traces, question=asked)


def _search_logs(request: Request) -> Search:
    asked = question_of_logs(request)
    condition(asked.filter, "logs")
    return partial(logs.found_logs, question=asked)


def not_found(request: Request) -> Response:
    """What no endpoint is at."""
    return error_answer("there is no such endpoint: docs/viewer/api.md lists them", 404)


ANSWERS: dict[str, Answer] = {
    "services": lambda cursor, request: services.services(cursor),
    "traces": lambda cursor, request: traces.traces(cursor, question(request)),
    "traces/{trace_id}": _trace,
    "logs": lambda cursor, request: logs.logs(cursor, question_of_logs(request)),
    "metrics": lambda cursor, request: metrics.metrics(cursor),
    "metrics/{name:path}": _metric,
    "red": _red,
    "map": lambda cursor, request: service_map.service_map(cursor, question(request)),
    "queries": lambda cursor, request: queries.queries(cursor, question(request)),
    "health": _health,
    "complete": _complete,
    "errors": lambda cursor, request: errors.groups(cursor, question(request)),
    "errors/{fingerprint}": _error,
}

SEARCHES: dict[str, Callable[[Request], Search]] = {"traces": _search_traces, "logs": _search_logs}


def routes() -> list[BaseRoute]:
    """Everything under /api/v1."""
    return [
        Route("/api/v1/info", info),
        Route("/api/v1/live", live),
        Route("/api/v1/export", export_lines),
        *(Route(f"/api/v1/search/{name}", searching(search)) for name, search in SEARCHES.items()),
        Route("/api/v1/sql", run_sql, methods=["POST"]),
        *(Route(f"/api/v1/{path}", answering(answer)) for path, answer in ANSWERS.items()),
        Route("/api/{path:path}", not_found),
    ]
