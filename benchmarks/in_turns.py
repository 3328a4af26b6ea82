"""The process of `counting`: `python -m benchmarks.in_turns PEER` in the peer's environment.

It calls the application in its own process, without a server and a client. It says `{}` when it is warm; to
`{"groups": N}` it answers with the CPU microseconds of N groups of four requests, two `on` with the counting of
statements (N+1) and two `off` without it, so ordered that what grows or falls meanwhile hits both alike. A peer that is
not otelkit has the same requests, and no difference.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from benchmarks.conversation import begin, say
from benchmarks.peers import WEB, peer

_WARM_UP = 300
_STOCKED = 500


def run(name: str) -> None:
    """Answers until standard input ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    chosen = peer(name)
    flush = chosen.start(WEB)

    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from benchmarks.app import create

    engines: list[Engine] = []
    event.listen(Engine, "engine_connect", lambda connection: engines.append(connection.engine), once=True)
    app = create(**chosen.fastapi_options)
    chosen.app_made(app)
    with closing(asyncio.new_event_loop()) as loop:
        for number in range(_WARM_UP):
            loop.run_until_complete(_request(app, number))
        switch = _switch(engines[0])
        gc.disable()  # a collection would fall into one turn or the other
        say()
        for line in sys.stdin:
            found: dict[str, list[float]] = {"on": [], "off": []}
            for number in range(json.loads(line)["groups"]):
                for state in ("on", "off", "off", "on") if number % 2 else ("off", "on", "on", "off"):
                    switch(state == "on")
                    begin = time.process_time()
                    loop.run_until_complete(_request(app, number))
                    found[state].append((time.process_time() - begin) * 1e6)
            flush()
            gc.collect()
            say(**found)


def _switch(engine: Any) -> Callable[[bool], None]:
    """Switches the counting of otelkit's listeners on an engine on and off, which no setting does while they run."""
    state = getattr(engine, "_otelkit_state", None)
    if state is None:
        return lambda on: None
    threshold = state.owner._too_often
    assert threshold

    def switch(on: bool) -> None:
        state.owner._too_often = threshold if on else 0

    return switch


async def _request(app: Any, number: int) -> None:
    path = f"/orders/{number % _STOCKED + 1}"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, _receive, _send)


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    if message["type"] == "http.response.start" and message["status"] != 200:
        raise RuntimeError(f"answered {message['status']}")


if __name__ == "__main__":
    begin()
    run(sys.argv[1])
