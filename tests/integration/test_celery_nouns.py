"""Every way to run a Celery task, on real workers over Redis and over RabbitMQ: the spans of its trace and its metrics.

A trace is compared as a drawing, one line a span of Celery's: name, kind, what became of it. `~` stands before a span
with a link instead of a parent, under the span that it is linked to.
"""

from __future__ import annotations

import gc
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import chain, chord, group

import otelkit
from tests.integration.celery_nouns_app import make_app
from tests.support.rabbitmq import RabbitMQ, rabbitmq_program, rabbitmq_server
from tests.support.server import FAST, clean_environment, running, wait_until_said
from tests.support.sink import ReceivedSpan, Sink, attributes

ROOT = Path(__file__).resolve().parents[2]
KINDS = {1: "internal", 3: "client", 4: "producer", 5: "consumer"}

# The brokers and workers are started once, so that all of it has to run in one process of pytest's.
pytestmark = pytest.mark.xdist_group("celery-nouns")


class Nouns:
    """The app of one broker, the worker's sink, and what was seen of a trace."""

    def __init__(self, sink: Sink, app: celery.Celery) -> None:
        self.sink = sink
        self.app = app
        self.queue = app.conf.task_default_queue

    def __getattr__(self, name: str) -> Any:
        return self.app.tasks[f"nouns.{name}"]

    def trace(self, act: Callable[[Nouns], object], count: int) -> list[ReceivedSpan]:
        """The spans of Celery's that come of an act, linked ones too, once there are as many."""
        with otelkit.span("caller") as caller:
            act(self)
        assert otelkit.flush().ok
        trace_id = f"{caller.get_span_context().trace_id:032x}"
        self.sink.wait_for(
            lambda: len(self._belonging(trace_id)) >= count,
            f"{count} spans",
            deadline_s=30,
        )
        return self._belonging(trace_id)

    def _belonging(self, trace_id: str) -> list[ReceivedSpan]:
        traces = {trace_id}
        spans = [span for span in self.sink.spans if span.scope != "otelkit.redis"]  # most are Redis's
        while True:
            found = [span for span in spans if span.trace_id in traces]
            ids = {span.span.span_id for span in found}
            more = {span.trace_id for span in spans if any(link.span_id in ids for link in span.span.links)} - traces
            if not more:
                # What a child sent at its end may come twice.
                return list({span.span_id: span for span in found}.values())
            traces |= more

    def measured(self, task: str) -> dict[str, int]:
        """The counts of every metric of a task over this queue, as `metric other-labels`, that are not 0."""
        found: Counter[str] = Counter()
        for metric in {metric.name for metric in self.sink.metrics if metric.scope == "otelkit.celery"}:
            for (_, labels), values in self.sink.series(metric).items():
                rest = dict(labels)
                if (
                    rest.pop("celery.task.name", "").removeprefix("nouns.") != task
                    or rest.pop("messaging.destination.name") != self.queue
                ):
                    continue
                assert rest.pop("messaging.system", "celery") == "celery"
                operation = {"messaging.client.sent.messages": "publish"}.get(metric, "process")
                assert rest.pop("messaging.operation.name", operation) == operation
                found[" ".join((metric, *map(str, rest.values())))] += round(values[-1])
        return {name: value for name, value in found.items() if value}


def drawn(spans: list[ReceivedSpan]) -> list[str]:
    """A trace as indented lines, siblings by name and start."""
    above: dict[bytes, list[tuple[bool, ReceivedSpan]]] = {}
    roots = []
    ids = {span.span.span_id for span in spans}
    for span in sorted(spans, key=lambda span: (span.name, span.span.start_time_unix_nano)):
        publishers = [link.span_id for link in span.span.links if _why(link) == "publish"]
        if span.span.parent_span_id in ids:
            above.setdefault(span.span.parent_span_id, []).append((False, span))
        elif publishers:
            assert not span.span.parent_span_id
            above.setdefault(publishers[0], []).append((True, span))
        elif span.span.parent_span_id:
            above.setdefault(b"", []).append((False, span))
        else:
            roots.append(span)
    lines: list[str] = []

    def draw(span: ReceivedSpan, depth: int, linked: bool) -> None:
        lines.append("  " * depth + ("~ " if linked else "") + told(span, spans))
        for by_link, below in above.get(span.span.span_id, ()):
            draw(below, depth + 1, by_link)

    for root in roots:
        draw(root, 0, False)
    return lines + [f"lost: {told(span, spans)}" for _, span in above.get(b"", ())]


def _why(link: Any) -> str:
    return str(next(pair.value.string_value for pair in link.attributes if pair.key == "celery.link"))


def told(span: ReceivedSpan, spans: list[ReceivedSpan]) -> str:
    """One span in one line."""
    found = span.attributes
    words = [span.name.replace("nouns.", ""), KINDS[span.span.kind]]
    words += [
        str(found[key]) for key in ("celery.task.state", "celery.task.discard.reason", "error.type") if key in found
    ]
    retries = found.get("celery.task.retries")
    if retries and "celery.task.queue.duration" in found:
        (earlier,) = [link.span_id for link in span.span.links if _why(link) == "attempt"]
        of = next(other for other in spans if other.span.span_id == earlier)
        words.append(f"attempt {retries + 1} after {of.attributes['celery.task.retries'] + 1}")
    if found.get("celery.task.redelivered"):
        words.append("redelivered")
    assert (span.span.status.code == 2) == ("error.type" in found), found
    return " ".join(words)


@dataclass
class Noun:
    """A way to run a task, the drawing of its trace, and the metrics of its tasks."""

    name: str
    act: Callable[[Nouns], object]
    tree: str
    metrics: dict[str, dict[str, int]]
    killed: bool = False
    """Whether the process is killed: what it counted in its last moments may be lost with it."""

    @property
    def lines(self) -> list[str]:
        indented = [line for line in self.tree.splitlines() if line.strip()]
        depth = len(indented[0]) - len(indented[0].lstrip())
        return [line[depth:] for line in indented]


def killed(**ends: int) -> dict[str, int]:
    """The metrics of a task whose process is killed."""
    found = {f"messaging.process.duration {name}": value for name, value in ends.items()}
    return {"messaging.client.sent.messages": 1, **found}


def sent(times: int = 1, **more: int) -> dict[str, int]:
    """The metrics of a task that was sent and taken up so often, and those given (`_` for a space)."""
    usual = {
        "messaging.client.sent.messages": times,
        "messaging.client.consumed.messages": times,
        "celery.task.queue.duration": times,
    }
    return {**usual, **{f"messaging.process.duration {name}": value for name, value in more.items()}}


def taken(times: int, metrics: dict[str, int]) -> dict[str, int]:
    """The metrics of a message that was delivered so often."""
    return {**metrics, "messaging.client.consumed.messages": times, "celery.task.queue.duration": times}


def discarded(reason: str, times_sent: int = 1) -> dict[str, int]:
    """The metrics of a task whose message was taken up and not run."""
    found = {"messaging.client.consumed.messages": 1, f"celery.task.discarded {reason}": 1}
    return {**found, "messaging.client.sent.messages": 1} if times_sent else found


def revoke_first(nouns: Nouns) -> None:
    """Before it is sent: the worker knows by then."""
    task_id = str(uuid.uuid4())
    assert nouns.app.control.revoke(task_id, reply=True, timeout=10, limit=1)
    nouns.seldom.apply_async(task_id=task_id)


def terminate(nouns: Nouns) -> None:
    """While it runs."""
    result = nouns.sleeper.delay()
    deadline = time.monotonic() + 20
    while not any(
        task["id"] == result.id and task["time_start"]
        for tasks in (nouns.app.control.inspect(timeout=0.5).active() or {}).values()
        for task in tasks
    ):
        assert time.monotonic() < deadline
    nouns.app.control.revoke(result.id, terminate=True)


COUNTED_BY_THE_CHILD = ("messaging.client.consumed.messages", "celery.task.queue.duration", "celery.task.active")
LOST = "billiard.exceptions.WorkerLostError"
HARD = "billiard.exceptions.TimeLimitExceeded"
SOFT = "billiard.exceptions.SoftTimeLimitExceeded"

NOUNS = [
    Noun(
        "delay",
        lambda nouns: nouns.add.delay(1),
        """
        caller internal
          publish add producer
            process add consumer SUCCESS
        """,
        {"add": sent(SUCCESS=1)},
    ),
    Noun(
        "countdown",
        lambda nouns: nouns.add.apply_async((1,), countdown=2),
        """
        caller internal
          publish add producer
            process add consumer SUCCESS
        """,
        {"add": sent(SUCCESS=1)},
    ),
    Noun(
        "eta",
        lambda nouns: nouns.add.apply_async((1,), eta=datetime.now(timezone.utc) + timedelta(seconds=2)),
        """
        caller internal
          publish add producer
            process add consumer SUCCESS
        """,
        {"add": sent(SUCCESS=1)},
    ),
    Noun(
        "retries",
        lambda nouns: nouns.flaky.delay(),
        """
        caller internal
          publish flaky producer
            process flaky consumer RETRY
              publish flaky producer
                process flaky consumer RETRY attempt 2 after 1
                  publish flaky producer
                    process flaky consumer SUCCESS attempt 3 after 2
        """,
        {"flaky": {**sent(3, RETRY=2, SUCCESS=1), "celery.task.retries ConnectionError": 2}},
    ),
    Noun(
        "failure",
        lambda nouns: nouns.fail.delay(),
        """
        caller internal
          publish fail producer
            process fail consumer FAILURE ValueError
        """,
        {"fail": {**sent(**{"FAILURE ValueError": 1}), "celery.task.failures ValueError": 1}},
    ),
    Noun(
        "retries that end in a failure",
        lambda nouns: nouns.flaky.delay(9),
        """
        caller internal
          publish flaky producer
            process flaky consumer RETRY
              publish flaky producer
                process flaky consumer RETRY attempt 2 after 1
                  publish flaky producer
                    process flaky consumer FAILURE ConnectionError attempt 3 after 2
        """,
        {
            "flaky": {
                **sent(3, **{"RETRY": 2, "FAILURE ConnectionError": 1}),
                "celery.task.retries ConnectionError": 2,
                "celery.task.failures ConnectionError": 1,
            }
        },
    ),
    Noun(
        "task from a task",
        lambda nouns: nouns.outer.delay(),
        """
        caller internal
          publish outer producer
            process outer consumer SUCCESS
              publish add producer
                process add consumer SUCCESS
        """,
        {"outer": sent(SUCCESS=1), "add": sent(SUCCESS=1)},
    ),
    Noun(
        "chain",
        lambda nouns: chain(nouns.add.s(1), nouns.mul.s(), nouns.add.s()).delay(),
        """
        caller internal
          publish add producer
            process add consumer SUCCESS
              publish mul producer
                process mul consumer SUCCESS
                  publish add producer
                    process add consumer SUCCESS
        """,
        {"add": sent(2, SUCCESS=2), "mul": sent(SUCCESS=1)},
    ),
    Noun(
        "group",
        lambda nouns: group(nouns.add.s(1), nouns.mul.s(2)).delay(),
        """
        caller internal
          publish add producer
            process add consumer SUCCESS
          publish mul producer
            process mul consumer SUCCESS
        """,
        {"add": sent(SUCCESS=1), "mul": sent(SUCCESS=1)},
    ),
    Noun(
        "chord",
        # One child runs both, in this order, so that the second one is who sends the body.
        lambda nouns: chord([nouns.add.s(1), nouns.mul.si(3).set(countdown=1)], nouns.total.s()).delay(),
        """
        caller internal
          publish add producer
            process add consumer SUCCESS
          publish mul producer
            process mul consumer SUCCESS
              publish total producer
                process total consumer SUCCESS
        """,
        {"add": sent(SUCCESS=1), "mul": sent(SUCCESS=1), "total": sent(SUCCESS=1)},
    ),
    Noun(
        "canvas in canvas",
        lambda nouns: chain(
            nouns.add.s(1), group(nouns.add.s(), chain(nouns.mul.s(), nouns.mul.s().set(countdown=1))), nouns.total.s()
        ).delay(),
        """
        caller internal
          publish add producer
            process add consumer SUCCESS
              publish add producer
                process add consumer SUCCESS
              publish mul producer
                process mul consumer SUCCESS
                  publish mul producer
                    process mul consumer SUCCESS
                      publish total producer
                        process total consumer SUCCESS
        """,
        {"add": sent(2, SUCCESS=2), "mul": sent(2, SUCCESS=2), "total": sent(SUCCESS=1)},
    ),
    Noun(
        "callback",
        lambda nouns: nouns.add.apply_async((1,), link=nouns.mul.s()),
        """
        caller internal
          publish add producer
            process add consumer SUCCESS
              publish mul producer
                process mul consumer SUCCESS
        """,
        {"add": sent(SUCCESS=1), "mul": sent(SUCCESS=1)},
    ),
    Noun(
        "callback of a failure",
        lambda nouns: nouns.fail.apply_async(link_error=nouns.told.s()),
        """
        caller internal
          publish fail producer
            process fail consumer FAILURE ValueError
              publish told producer
                process told consumer SUCCESS
        """,
        {"fail": {**sent(**{"FAILURE ValueError": 1}), "celery.task.failures ValueError": 1}, "told": sent(SUCCESS=1)},
    ),
    Noun(
        "replaced",
        lambda nouns: nouns.replaced.delay(),
        """
        caller internal
          publish replaced producer
            process replaced consumer IGNORED
              publish add producer
                process add consumer SUCCESS
        """,
        {"replaced": sent(IGNORED=1), "add": sent(SUCCESS=1)},
    ),
    Noun(
        "revoked",
        revoke_first,
        """
        caller internal
          publish seldom producer
            process seldom consumer REVOKED revoked
        """,
        {"seldom": discarded("revoked")},
    ),
    Noun(
        "expired",
        lambda nouns: nouns.seldom.apply_async(countdown=1, expires=0.5),
        """
        caller internal
          publish seldom producer
            process seldom consumer REVOKED expired
        """,
        {"seldom": discarded("expired")},
    ),
    Noun(
        "terminated",
        terminate,
        """
        caller internal
          publish sleeper producer
            process sleeper consumer REVOKED
        """,
        {"sleeper": killed(REVOKED=1)},
        killed=True,
    ),
    Noun(
        "unknown",
        lambda nouns: nouns.app.send_task("nouns.nowhere"),
        """
        caller internal
          publish nowhere producer
            process nowhere consumer FAILURE unknown celery.exceptions.NotRegistered
        """,
        {"nowhere": {"messaging.client.sent.messages": 1}, "_OTHER": discarded("unknown", 0)},
    ),
    Noun(
        "invalid",
        lambda nouns: nouns.add.apply_async((1,), headers={"eta": "next week"}),
        """
        caller internal
          publish add producer
            process add consumer FAILURE invalid celery.exceptions.InvalidTaskError
        """,
        {"add": {"messaging.client.sent.messages": 1}, "_OTHER": discarded("invalid", 0)},
    ),
    Noun(
        "rejected",
        lambda nouns: nouns.reject.delay(),
        """
        caller internal
          publish reject producer
            process reject consumer REJECTED
        """,
        {"reject": sent(REJECTED=1)},
    ),
    Noun(
        "rejected and given back",
        lambda nouns: nouns.again.delay(),
        """
        caller internal
          publish again producer
            process again consumer REJECTED
            process again consumer SUCCESS redelivered
        """,
        {"again": taken(2, sent(REJECTED=1, SUCCESS=1))},
    ),
    Noun(
        "ignored",
        lambda nouns: nouns.ignore.delay(),
        """
        caller internal
          publish ignore producer
            process ignore consumer IGNORED
        """,
        {"ignore": sent(IGNORED=1)},
    ),
    Noun(
        "soft time limit",
        lambda nouns: nouns.soft.delay(),
        f"""
        caller internal
          publish soft producer
            process soft consumer FAILURE {SOFT}
        """,
        {"soft": {**sent(**{f"FAILURE {SOFT}": 1}), f"celery.task.failures {SOFT}": 1}},
    ),
    Noun(
        "hard time limit",
        lambda nouns: nouns.hard.delay(),
        f"""
        caller internal
          publish hard producer
            process hard consumer FAILURE {HARD}
        """,
        {"hard": {**killed(**{f"FAILURE {HARD}": 1}), f"celery.task.failures {HARD}": 1}},
        killed=True,
    ),
    Noun(
        "worker lost",
        lambda nouns: nouns.lost.delay(),
        f"""
        caller internal
          publish lost producer
            process lost consumer FAILURE {LOST}
        """,
        {"lost": {**killed(**{f"FAILURE {LOST}": 1}), f"celery.task.failures {LOST}": 1}},
        killed=True,
    ),
    Noun(
        "redelivery of acks_late",
        lambda nouns: nouns.redelivered.delay(),
        f"""
        caller internal
          publish redelivered producer
            process redelivered consumer REJECTED {LOST}
            process redelivered consumer SUCCESS redelivered
        """,
        {"redelivered": killed(**{f"REJECTED {LOST}": 1, "SUCCESS": 1})},
        killed=True,
    ),
    Noun(
        "eager",
        lambda nouns: nouns.add.apply((1,)),
        """
        caller internal
          process add consumer SUCCESS
        """,
        {},
    ),
    Noun(
        "eager with retries",
        lambda nouns: nouns.flaky.apply(),
        """
        caller internal
          process flaky consumer RETRY
          process flaky consumer RETRY
          process flaky consumer SUCCESS
        """,
        {},
    ),
    Noun(
        "custom Task class",
        lambda nouns: nouns.audited.delay(),
        """
        caller internal
          publish audited producer
            process audited consumer SUCCESS
              audited internal
        """,
        {"audited": sent(SUCCESS=1)},
    ),
    Noun(
        "task inheritance",
        lambda nouns: nouns.csv.delay(),
        """
        caller internal
          publish csv producer
            process csv consumer SUCCESS
              audited internal
        """,
        {"csv": sent(SUCCESS=1)},
    ),
    Noun(
        "results",
        lambda nouns: [nouns.add.delay(1).get(timeout=20), nouns.mul.apply_async((1,), ignore_result=True)],
        """
        caller internal
          publish add producer
            process add consumer SUCCESS
          publish mul producer
            process mul consumer SUCCESS
        """,
        {"add": sent(SUCCESS=1), "mul": sent(SUCCESS=1)},
    ),
]


@pytest.fixture(scope="module")
def telemetry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    """A receiver of the workers and of this process."""
    with Sink() as sink:
        state = str(tmp_path_factory.mktemp("state"))
        otelkit.bootstrap("test", otlp_endpoint=sink.url, state_dir=state, metric_export_interval_s=0.4)
        yield sink
        otelkit.shutdown()


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ | None]:
    """A node, which starts while others do; None where there is no program of it."""
    if rabbitmq_program() is None:
        yield None
        return
    with rabbitmq_server() as server:
        yield server


@contextmanager
def process(
    nouns: Nouns, folder: Path, *command: str, said: str = " ready.", environ: dict[str, str] | None = None
) -> Iterator[Path]:
    """A real `celery` of an app, ready when it says so; the value is its log."""
    log = folder / f"{nouns.queue}-{command[0]}.log"
    settings = clean_environment(
        **FAST,
        TEST_BROKER=nouns.app.conf.broker_url,
        TEST_BACKEND=nouns.app.conf.result_backend,
        TEST_QUEUE=nouns.queue,
        TEST_BOOTSTRAP="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=nouns.sink.url,
        OTELKIT_STATE_DIR=str(folder / "state"),
        **(environ or {}),
    )
    with running(["celery", "-A", "tests.integration.celery_nouns_app", *command], cwd=ROOT, environ=settings, log=log):
        wait_until_said(log, said, deadline_s=60)
        yield log


@pytest.fixture(scope="module")
def app_of(telemetry: Sink, redis_url: str) -> Iterator[Callable[[str, str], Nouns]]:
    """`app_of("redis", url)`: an app with a queue of its own."""
    made: list[Nouns] = []

    def app(name: str, broker: str) -> Nouns:
        made.append(Nouns(telemetry, make_app(broker, redis_url, f"{name}-{uuid.uuid4().hex[:8]}")))
        return made[-1]

    yield app
    pools = [nouns.app.backend.client.connection_pool for nouns in made]
    for nouns in made:
        nouns.app.close()
    del nouns
    made.clear()
    # A chord's results are held by its app's backend, and unsubscribe when they go: while there is a server.
    gc.collect()
    for pool in pools:
        pool.disconnect()


@pytest.fixture(scope="module")
def workers(
    app_of: Callable[[str, str], Nouns],
    redis_url: str,
    rabbitmq: RabbitMQ | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Nouns]]:
    """`workers("redis")`: a prefork worker over a broker, one for all tests."""
    folder = tmp_path_factory.mktemp("workers")
    found: dict[str, Nouns] = {}
    with ExitStack() as stack:

        def over(broker: str) -> Nouns:
            if broker == "rabbitmq" and rabbitmq is None:
                pytest.skip("needs rabbitmq-server (apt-get install rabbitmq-server)")
            if broker not in found:
                url = redis_url if broker == "redis" else rabbitmq.wait().url  # type: ignore[union-attr]
                nouns = found[broker] = app_of(broker, url)
                stack.enter_context(process(nouns, folder, "worker", "-c", "2", "-l", "INFO"))
            return found[broker]

        yield over
    found.clear()


@pytest.mark.parametrize("broker", ["redis", pytest.param("rabbitmq", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "noun",
    [pytest.param(noun, marks=pytest.mark.slow if noun.killed else ()) for noun in NOUNS],
    ids=lambda noun: noun.name.replace(" ", "-"),
)
def test_what_is_recorded_of_a_way_to_run_a_task(
    noun: Noun, broker: str, workers: Callable[[str], Nouns], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans with their parents or links, kinds, names, states, errors; every series of its tasks' metrics."""
    nouns = workers(broker)
    before = {task: nouns.measured(task) for task in noun.metrics}
    spans = nouns.trace(noun.act, len(noun.lines))
    assert drawn(spans) == noun.lines

    def more(task: str) -> dict[str, int]:
        now = nouns.measured(task)
        changed = {
            name: now[name] - before[task].get(name, 0) for name in now if now[name] != before[task].get(name, 0)
        }
        return {name: value for name, value in changed.items() if not (noun.killed and name in COUNTED_BY_THE_CHILD)}

    def flushed() -> bool:
        return all(more(task) == wanted for task, wanted in noun.metrics.items())

    otelkit.flush()
    try:
        nouns.sink.wait_for(flushed, "its metrics", deadline_s=5)
    except AssertionError:
        assert {task: more(task) for task in noun.metrics} == noun.metrics
    ids = {span.span_id: span for span in spans}
    for span in spans:
        if span.scope == "otelkit.celery":
            found = span.attributes
            assert found["messaging.system"] == "celery"
            assert found["messaging.destination.name"] == ("" if noun.name.startswith("eager") else nouns.queue)
            operation = span.name.partition(" ")[0]
            assert found["messaging.operation.name"] == operation
            assert found["celery.task.name"] == span.name.partition(" ")[2]
            assert found["messaging.operation.type"] == {"publish": "send"}.get(operation, operation)
            parent = ids.get(span.parent_id)
            if operation == "process" and parent is not None and parent.name.startswith("publish"):
                assert found["messaging.message.id"] == parent.attributes["messaging.message.id"]
            assert found["messaging.message.id"]
            if noun.name in ("countdown", "eta"):
                assert found.get("celery.task.queue.duration", 0.0) < 2, "the time until it is due is no wait"
            events = [(event.name, attributes(event.attributes)) for event in span.span.events]
            asked_again = found.get("celery.task.state") == "RETRY"
            assert (("retry", {"error.type": "ConnectionError"}) in events) == asked_again


def test_every_noun_has_its_row_in_the_page() -> None:
    """In the order of the cases."""
    page = (ROOT / "docs" / "instrumentation" / "celery.md").read_text(encoding="utf-8")
    table = page.partition("## What is recorded")[2].partition("Each row")[0]
    assert re.findall(r"^\| ([\w ]+) \|", table, re.MULTILINE)[1:] == [noun.name for noun in NOUNS]


def of_pool(nouns: Nouns) -> None:
    """What every pool has to get right."""
    group(nouns.add.si(1), nouns.fail.si(), nouns.flaky.si(1)).delay()
    nouns.mul.apply_async((1,), countdown=1)


CONTINUED = """
caller internal
  publish add producer
    process add consumer SUCCESS
  publish fail producer
    process fail consumer FAILURE ValueError
  publish flaky producer
    process flaky consumer RETRY
      publish flaky producer
        process flaky consumer SUCCESS attempt 2 after 1
  publish mul producer
    process mul consumer SUCCESS
"""
LINKED = CONTINUED.replace("process", "~ process")
OLD_ONES_LINKED = CONTINUED.replace("process mul", "~ process mul")


@pytest.mark.parametrize(
    ("pool", "setting", "tree"),
    [
        ("gevent", {}, CONTINUED),
        ("solo", {"OTELKIT_CELERY_CONTEXT": "link"}, LINKED),
        ("threads", {"OTELKIT_CELERY_LINK_AFTER_S": "0.8"}, OLD_ONES_LINKED),
    ],
    ids=["gevent", "solo-linked", "threads-old-ones-linked"],
)
@pytest.mark.slow
def test_a_pool_without_processes_records_the_same(
    pool: str,
    setting: dict[str, str],
    tree: str,
    app_of: Callable[[str, str], Nouns],
    redis_url: str,
    tmp_path: Path,
) -> None:
    """And a run is a child of its publisher or linked to it, as the worker's settings say."""
    nouns = app_of(pool, redis_url)
    with process(nouns, tmp_path, "worker", "-P", pool, "-c", "4", "-l", "INFO", environ=setting):
        lines = [line for line in tree.splitlines() if line]
        assert drawn(nouns.trace(of_pool, len(lines))) == lines
        if pool == "gevent":
            hard = [
                "caller internal",
                "  publish hard producer",
                "    process hard consumer FAILURE gevent.timeout.Timeout",
            ]
            assert drawn(nouns.trace(lambda nouns: nouns.hard.delay(), 3)) == hard
        nouns.sink.wait_for(lambda: "messaging.process.duration SUCCESS" in nouns.measured("mul"), "its metrics")
        waits = [
            span.attributes["celery.task.queue.duration"]
            for span in nouns.sink.named("process nouns.mul")
            if span.attributes["messaging.destination.name"] == nouns.queue
        ]
    assert len(waits) == 1
    assert 0 <= waits[0] < 0.9, "the time until the ETA is no wait"


@pytest.mark.slow
def test_beats_tick_is_a_root_and_its_tasks_run_is_linked_to_it(
    workers: Callable[[str], Nouns], telemetry: Sink, tmp_path: Path
) -> None:
    """What the task sends continues the task's own trace; a thread of beat measures the broker."""
    nouns = workers("redis")
    options = ("-s", str(tmp_path / "schedule"), "-l", "INFO")
    with process(nouns, tmp_path, "beat", *options, said="Sending due", environ={"OTELKIT_CELERY_MONITOR": "true"}):
        telemetry.wait_for(lambda: len(telemetry.named("process nouns.beaten")) >= 2, "two ticks", deadline_s=30)
        telemetry.wait_for(lambda: bool(telemetry.series("celery.workers")), "what the monitor measures")
    tick = telemetry.named("beat nouns.beaten")[0]
    assert not tick.parent_id
    assert tick.attributes == {"celery.beat.entry": "each second", "celery.task.name": "nouns.beaten"}
    assert {span.trace_id for span in telemetry.named("beat nouns.beaten")} != {tick.trace_id}
    telemetry.wait_for(lambda: len(nouns._belonging(tick.trace_id)) >= 5, "the tick's spans")
    assert drawn(nouns._belonging(tick.trace_id)) == [
        "beat beaten internal",
        "  publish beaten producer",
        "    ~ process beaten consumer SUCCESS",
        "      publish add producer",
        "        process add consumer SUCCESS",
    ]
    measured = dict(key for series in telemetry.series("celery.queue.messages") for key in series[1])
    assert measured["messaging.destination.name"] == nouns.queue


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@pytest.mark.slow
def test_the_monitor_measures_a_broker(
    broker: str, workers: Callable[[str], Nouns], rabbitmq: RabbitMQ | None, tmp_path: Path
) -> None:
    """A queue that nobody reads grows older, another one is empty, one worker answers."""
    nouns = workers(broker)
    idle = f"idle-{uuid.uuid4().hex[:8]}"
    began_s = time.time()
    nouns.add.apply_async((1,), queue=idle)
    nouns.mul.apply_async((1,), queue=idle)
    with Sink() as sink:
        environ = clean_environment(
            **FAST,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
            OTELKIT_STATE_DIR=str(tmp_path / "state"),
            **(
                {"OTELKIT_CELERY_MANAGEMENT_ENDPOINT": rabbitmq.management} if broker == "rabbitmq" and rabbitmq else {}
            ),
        )
        url = nouns.app.conf.broker_url
        queues = ("-Q", idle, "-Q", nouns.queue)
        command = ["otelkit", "monitor", "celery", "-b", url, *queues, "--interval", "0.5"]
        with running(command, cwd=tmp_path, environ=environ, log=tmp_path / "log"):

            def last(metric: str, **labels: str) -> float:
                of = [values for (_, each), values in sink.series(metric).items() if dict(each) == labels]
                return of[0][-1] if of else -1

            def ages() -> list[float]:
                return [
                    last("celery.queue.oldest_message.age", **{"messaging.destination.name": q})
                    for q in (idle, nouns.queue)
                ]

            sink.wait_for(lambda: ages()[0] > 1.5 and ages()[1] == 0, "the age", deadline_s=30)
            assert ages()[0] < time.time() - began_s + 1.0
            lengths = [last("celery.queue.messages", **{"messaging.destination.name": q}) for q in (idle, nouns.queue)]
            assert lengths == [2, 0]
            sink.wait_for(lambda: last("celery.workers") == 1, "the worker")
        assert {metric.resource["service.name"] for metric in sink.metrics} == {"celery-monitor"}
        assert [span.name for span in sink.spans] == []
    said = (tmp_path / "log").read_text()
    assert f"measuring {idle}, {nouns.queue} at " in said
    assert "guest:guest" not in said
