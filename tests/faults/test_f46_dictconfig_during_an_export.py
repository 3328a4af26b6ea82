"""Fault 46: logging.config.dictConfig() while records are exported. It takes logging's locks, closes every handler and
hangs nobody.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Answer, Sink
from tests.support.slow import slow

# The workers of otelkit speak during an outage, and so need logging's locks while dictConfig has them.
SOURCE = """
import faulthandler, logging, logging.config, sys, threading, otelkit
faulthandler.dump_traceback_later(40, exit=True)
otelkit.bootstrap("shop")
stop = threading.Event()
def say():
    logger, number = logging.getLogger("shop"), 0
    while not stop.is_set():
        logger.warning("said %d", number := number + 1)
        said.append(number)
def flush():
    while not stop.is_set():
        otelkit.flush(0.05)
said = []
threads = [threading.Thread(target=target) for target in (say, say, flush)]
for thread in threads: thread.start()
config = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "WARNING"},
}
done = 0
while done < 200 or len(said) < 400:
    logging.config.dictConfig({**config, "incremental": True} if done % 2 else config)
    done += 1
stop.set()
for thread in threads: thread.join()
otelkit.flush(ANSWERS * 10)
print(len(said), file=sys.stderr)
"""


@pytest.mark.parametrize("answers", [True, *slow(False)], ids=["delivered", "refused"])
def test_nobody_hangs(sink: Sink, tmp_path: Path, answers: bool) -> None:
    """Two threads log and one flushes, while the collector takes everything or nothing; every record is exported."""
    if not answers:
        sink.answer = lambda path: Answer(status=503)
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_BLRP_MAX_QUEUE_SIZE": "1000000",
        "OTEL_BLRP_SCHEDULE_DELAY": "20",
        "OTEL_LOG_LEVEL": "debug",
    }
    finished = run_python(f"ANSWERS = {answers}\n{SOURCE}", cwd=tmp_path, environ=environ, deadline_s=60)
    said = int(finished.err.splitlines()[-1])
    bodies = [log.body for log in sink.logs if str(log.body).startswith("said ")]
    assert len(bodies) == (said if answers else 0)
