"""The server process: `python -m benchmarks.serve PEER` in the peer's environment.

It says `{"port": …}` when it listens; whatever line comes in has it send everything recorded so far, and answer when
that has arrived (with `collect`, and when the garbage is collected). It ends with its standard input.
"""

from __future__ import annotations

import gc
import logging
import socket
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.conversation import answer_in_thread, begin, say
from benchmarks.peers import WEB, peer


def serve(name: str) -> None:
    """Runs the application under a peer until standard input ends."""
    # The application's own logging, as an application sets it up; standard error goes to a file.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    chosen = peer(name)
    flush = chosen.start(WEB)

    import uvicorn

    from benchmarks.app import create

    app = create(**chosen.fastapi_options)
    chosen.app_made(app)
    # The peers take turns: a connection idles for as long as the others take.
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, timeout_keep_alive=600))

    def answer(words: Mapping[str, Any]) -> Mapping[str, object]:
        flush()
        if words.get("collect"):
            gc.collect()
        return {}

    def end() -> None:
        server.should_exit = True

    with socket.create_server(("127.0.0.1", 0)) as listening:
        answer_in_thread(answer, end)
        say(port=listening.getsockname()[1])
        server.run(sockets=[listening])


if __name__ == "__main__":
    begin()
    serve(sys.argv[1])
