"""All faults at once, in any order: processes that emit, fork, are killed or end, before a next hop and a disk that
fail.

The ledger of each holds at every rest, and what arrives is what all of them accepted, but what they dropped and what
the killed had in memory. MODEL_EXAMPLES=200 tries more than the default run does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otelkit.delivery.ledger import read_page
from tests.faults.spooled import balanced, nobody, segments
from tests.support.process import kill_session, start_python
from tests.support.sink import Answer, Sink

SERVICE = """
import json, os, resource, signal, socket, sys, otelkit
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who is killed is gone
otelkit.bootstrap("shop")

def connected():
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["MODEL_SOCKET"])
        return connection.makefile("rw")

def answer(**values):
    commands.write(json.dumps({"pid": os.getpid(), **values}) + "\\n")
    commands.flush()

def standing():
    status = otelkit.status()
    return {"ledger": status["ledger"], "in_memory": status["in_memory"]}

commands = connected()
answer()
while line := commands.readline():
    command, *values = json.loads(line)
    if command == "fork":
        if os.fork() == 0:
            commands.close()
            commands = connected()
        answer()
    elif command == "spans":
        for n in range(*values):
            with otelkit.span("work", n=n): pass
        answer()
    elif command == "logs":
        for n in range(*values): otelkit.event("said", n=n)
        answer()
    elif command == "counts":
        for n in range(*values): otelkit.count("made")
        answer()
    elif command == "files":
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (values[0] if values[0] else hard, hard))
        answer()
    elif command == "flush":
        answer(ok=otelkit.flush(values[0]).ok, **standing())
    elif command == "standing":
        answer(**standing())
    elif command == "end":
        otelkit.shutdown()
        answer(**standing())
        sys.exit()
"""
ENVIRON = {
    # Mostly what is sent is sent by a flush or an end, and sometimes by the clock.
    "OTEL_BSP_SCHEDULE_DELAY": "1000",
    "OTEL_BLRP_SCHEDULE_DELAY": "1000",
    "OTEL_METRIC_EXPORT_INTERVAL": "60000",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "300",
    "OTELKIT_SHUTDOWN_TIMEOUT_S": "1",
    # Some batches are larger than the queue.
    "OTEL_BSP_MAX_QUEUE_SIZE": "500",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "500",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "100",
}
PATIENCE_S = 30.0
REJECTING: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=1)),
    "/v1/logs": ExportLogsServiceResponse(partial_success=ExportLogsPartialSuccess(rejected_log_records=1)),
    "/v1/metrics": ExportMetricsServiceResponse(partial_success=ExportMetricsPartialSuccess(rejected_data_points=1)),
}
ANSWERS: dict[str, Any] = {
    "takes": lambda path: Answer(),
    "unavailable": lambda path: Answer(503),
    # Not taken in the end either: else what was timed out would arrive twice.
    "hangs": lambda path: Answer(503, after_s=20),
    "unauthorized": lambda path: Answer(401),
    "rejects one": lambda path: Answer(body=REJECTING[path].SerializeToString()),
}
HOPS = [*ANSWERS, "takes little", "refuses"]
MOST_PROCESSES = 4
Accounts = dict[str, dict[str, Any]]


class Service:
    """A process of the service, or a fork of one."""

    def __init__(self, connection: socket.socket, state: Path) -> None:
        connection.settimeout(PATIENCE_S)
        self._connection = connection
        self._lines = connection.makefile("rw")
        self._state = state
        self._page: int | None = None
        self.pid = int(self._answer()["pid"])

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer

    def ask(self, *command: object) -> dict[str, Any]:
        """Sends a command, and waits until it is done."""
        self._lines.write(json.dumps(command) + "\n")
        self._lines.flush()
        return self._answer()

    def kill(self) -> Accounts:
        """SIGKILL: its ledger, as its page tells it after that."""
        pages = [os.open(page, os.O_RDONLY) for page in self._state.glob(f"{self.pid}-*.ledger")]
        os.kill(self.pid, signal.SIGKILL)
        self.gone()
        if not pages:  # a fork that has recorded nothing
            return {}
        (page,) = pages
        try:
            accounts = read_page(Path(f"/proc/self/fd/{page}")).accounts
        finally:
            os.close(page)
        return {
            name: {
                "accepted": account.accepted,
                "delivered": account.delivered,
                "spooled": account.spooled,
                "adopted": account.adopted,
                "dropped": {reason.value: count for reason, count in account.dropped.items()},
            }
            for name, account in accounts.items()
        }

    def gone(self) -> None:
        """Waits for its end."""
        assert self._lines.read() == ""
        self._lines.close()
        self._connection.close()


class Model(RuleBasedStateMachine):
    """Up to four processes of one service at once."""

    SPOOL: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        self.place = Path(self.closing.enter_context(tempfile.TemporaryDirectory()))
        self.listener = self.closing.enter_context(socket.socket(socket.AF_UNIX))
        self.listener.bind(str(self.place / "socket"))
        self.listener.listen()
        self.listener.settimeout(PATIENCE_S)
        self.port = self.closing.enter_context(nobody())
        self.sinks: list[Sink] = []
        self.listening = ExitStack()
        self.refuses = True
        self.started: list[subprocess.Popen[str]] = []
        self.living: list[Service] = []
        self.ended: list[Accounts] = []
        self.number = 0
        self.made: Counter[str] = Counter()
        self.kills = 0
        self.killed: Counter[str] = Counter()

    @property
    def state(self) -> Path:
        return self.place / "state"

    @property
    def spool(self) -> Path:
        return self.state / "spool"

    def one(self, data: st.DataObject) -> Service:
        """One of the living."""
        return self.living[data.draw(st.integers(0, len(self.living) - 1))]

    def accept(self) -> None:
        """A process has started, and reports."""
        self.living.append(Service(self.listener.accept()[0], self.state))

    def check_balance(self, service: Service) -> None:
        """Its ledger adds up. It goes on sending meanwhile: both looks are to be in one moment."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            standing = service.ask("standing")
            accounts = standing["ledger"].values()
            left = sum(
                account["accepted"] - account["delivered"] - account["spooled"] - sum(account["dropped"].values())
                for account in accounts
            )
            if left == standing["in_memory"]:
                return
            assert time.monotonic() < deadline, standing
            time.sleep(0.01)

    def end_one(self, service: Service) -> None:
        """In order: nothing is in memory then."""
        self.living.remove(service)
        standing = service.ask("end")
        service.gone()
        assert standing["in_memory"] == 0
        for signal_name, account in standing["ledger"].items():
            assert balanced(account), (signal_name, account)
        self.ended.append(standing["ledger"])

    # -- the world

    @initialize(disk=st.sampled_from(["sound", "sound", "taken"]))
    def begin(self, disk: str) -> None:
        """A file may be where the spool's folder would go."""
        if disk == "taken":
            self.state.mkdir(0o700)
            self.spool.write_text("")
        self.hop("takes")
        self.start()

    @rule(how=st.sampled_from(HOPS))
    def hop(self, how: str) -> None:
        """The next hop behaves in another way from now on."""
        if how == "refuses":
            for sink in self.sinks:  # the connections that there are
                sink.answer = lambda path: Answer(503, reset=True)
            self.listening.close()
            self.refuses = True
            return
        if self.refuses:
            self.sinks.append(self.listening.enter_context(Sink(port=self.port)))
            self.refuses = False
        self.sinks[-1].answer = ANSWERS.get(how, ANSWERS["takes"])
        self.sinks[-1].most_bytes = 1500 if how == "takes little" else sys.maxsize

    @precondition(lambda self: self.spool.is_file())
    @rule()
    def mend_the_disk(self) -> None:
        self.spool.unlink()

    # -- the processes

    @precondition(lambda self: len(self.living) < 2)
    @rule()
    def start(self) -> None:
        """The service is started, again or beside itself."""
        environ = {
            **ENVIRON,
            "OTELKIT_SPOOL": self.SPOOL,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "MODEL_SOCKET": str(self.place / "socket"),
        }
        self.started.append(start_python(SERVICE, cwd=self.place, environ=environ))
        self.accept()

    @precondition(lambda self: 0 < len(self.living) < MOST_PROCESSES)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        self.one(data).ask("fork")
        self.accept()

    @precondition(lambda self: self.living)
    @rule(data=st.data(), kind=st.sampled_from(["spans", "logs", "counts"]), times=st.integers(1, 700))
    def emit(self, data: st.DataObject, kind: str, times: int) -> None:
        """Each record has a number of its own."""
        self.one(data).ask(kind, self.number, self.number + times)
        self.number += times
        self.made[kind] += times

    @precondition(lambda self: self.living)
    @rule(data=st.data(), most=st.sampled_from([0, 3000, 20_000]))
    def limit_files(self, data: st.DataObject, most: int) -> None:
        """RLIMIT_FSIZE: a file of the process's grows no further, in the middle of a batch perhaps; 0 is no limit."""
        self.one(data).ask("files", most)

    @precondition(lambda self: self.living)
    @rule(data=st.data(), timeout_s=st.sampled_from([0.05, 0.5]))
    def flush(self, data: st.DataObject, timeout_s: float) -> None:
        """The ledger adds up after it."""
        service = self.one(data)
        service.ask("flush", timeout_s)
        self.check_balance(service)

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.end_one(self.one(data))

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """What is nowhere else on its page was in memory."""
        service = self.one(data)
        self.living.remove(service)
        self.kills += 1
        accounts = service.kill()
        for signal_name, account in accounts.items():
            left = account["accepted"] - account["delivered"] - account["spooled"] - sum(account["dropped"].values())
            assert left >= 0, (signal_name, account)
            self.killed[signal_name] += left
        self.ended.append(accounts)

    # -- the end

    def teardown(self) -> None:
        """All is well again, and the service's last process sends what is left."""
        try:
            if self.sinks:
                self.settle()
        finally:
            for process in self.started:
                kill_session(process)
            self.listening.close()
            self.closing.close()

    def settle(self) -> None:
        self.hop("takes")
        if self.spool.is_file():
            self.spool.unlink()
        for service in self.living:
            service.ask("files", 0)
        while self.living:
            self.end_one(self.living[0])
        self.start()
        last = self.living[0]
        for kind in ("spans", "logs", "counts"):  # what has answered is what is adopted
            last.ask(kind, self.number, self.number + 1)
            self.number += 1
            self.made[kind] += 1
        deadline = time.monotonic() + PATIENCE_S
        while not last.ask("flush", 5.0)["ok"] or self.left_by_others(last):
            assert time.monotonic() < deadline, (last.ask("standing"), self.left_by_others(last))
            time.sleep(0.05)
        self.check_balance(last)
        self.end_one(last)
        assert segments(self.place) == []
        spans = [span.attributes["n"] for sink in self.sinks for span in sink.spans]
        # Besides what the model makes: each start is a record, and what each process tells of its telemetry.
        logs = [
            log.attributes["n"] if log.record.event_name == "said" else (log.resource["process.pid"], log.body)
            for sink in self.sinks
            for log in sink.logs
        ]
        logs += [
            (told.resource["process.pid"], told.record.time_unix_nano) for sink in self.sinks for told in sink.statuses
        ]
        self.check_arrival("traces", spans, self.made["spans"])
        self.check_arrival("logs", logs, self.made["logs"])

    def left_by_others(self, service: Service) -> list[Path]:
        return [path for path in segments(self.place) if not path.parent.name.startswith(f"{service.pid}-")]

    def check_arrival(self, signal_name: str, arrived: list[Any], made: int) -> None:
        """What arrived is what was accepted, but what was dropped or in memory at a kill. What was rejected of a
        request the sink has kept. What a killed process had sent it may not have come to count: that may arrive all
        the same, or twice.
        """
        accounts = [ended[signal_name] for ended in self.ended if ended]
        accepted = sum(account["accepted"] - account["adopted"] for account in accounts)
        dropped = sum((Counter(account["dropped"]) for account in accounts), Counter[str]())
        most = accepted - (sum(dropped.values()) - dropped["rejected"])
        different = len(set(arrived))
        told = f"{signal_name}: {made} made, {accepted} accepted, {dropped}, {self.killed} killed, {different} arrived"
        assert accepted >= made, told
        assert most - self.killed[signal_name] <= different <= most, told
        if not self.kills:
            assert len(arrived) == different, f"{signal_name}: twice"


class OnFailure(Model):
    """The spool is written when a request fails."""

    SPOOL = "on"


class WrittenAhead(Model):
    """Every batch is on disk before it is sent."""

    SPOOL = "always"


EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "3"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a smaller one is not worth the minutes that it takes
    suppress_health_check=list(HealthCheck),
)
OnFailure.TestCase.settings = WrittenAhead.TestCase.settings = SETTINGS
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 30 * EXAMPLES)]
TestOnFailure = OnFailure.TestCase
TestWrittenAhead = WrittenAhead.TestCase
