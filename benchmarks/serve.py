"""The server process: `python -m benchmarks.serve PEER` in the peer's environment.

Speaks lines over its standard streams. It says `{"port": …}` when it listens; each line that comes in has it send
everything recorded so far and answer `{"cpu_s": …}`, the whole process's CPU time since its start, all threads. It
ends with its standard input.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time

from benchmarks.peers import Flush, peer


def serve(name: str) -> None:
    """Runs the application under a peer until standard input ends."""
    # The application's own logging, as an application sets it up; standard error goes to a file.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    chosen = peer(name)
    flush = chosen.start()

    import uvicorn

    from benchmarks.app import create

    app = create(**chosen.fastapi_options)
    # The peers take turns: a connection idles for as long as the others take.
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, timeout_keep_alive=600))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        _say(port=listening.getsockname()[1])
        threading.Thread(target=_answer, args=(server, flush), daemon=True).start()
        server.run(sockets=[listening])


def _answer(server: object, flush: Flush) -> None:
    for _ in sys.stdin:
        flush()
        _say(cpu_s=time.process_time())
    server.should_exit = True  # type: ignore[attr-defined]


def _say(**words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
