"""Starting telemetry in every wrong way: each row says what happens, and each runs in a process of its own."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import Finished, run_python
from tests.support.server import free_port
from tests.support.sink import Sink
from tests.support.slow import slow

PRELUDE = """
import json, logging, os, sys, threading
import otelkit
"""
ALL_OFF = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}


def run(
    tmp_path: Path,
    source: str,
    sink: Sink | None = None,
    *,
    check: bool = True,
    deadline_s: float = 30.0,
    **environ: Any,
) -> Finished:
    """Runs a snippet that has otelkit imported and, with a sink, delivers there."""
    target = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url if sink else f"http://127.0.0.1:{free_port()}"}
    settings = {"OTELKIT_SHUTDOWN_TIMEOUT_S": "2" if sink else "0", **ALL_OFF, **target, **environ}
    return run_python(
        PRELUDE + textwrap.dedent(source), cwd=tmp_path, environ=settings, check=check, deadline_s=deadline_s
    )


def names(sink: Sink) -> list[str]:
    """The names of the spans that arrived."""
    return sorted(span.name for span in sink.spans)


def test_a_password_in_the_address_is_in_no_message(tmp_path: Path) -> None:
    """Neither in the line at start nor in the error about other settings."""
    finished = run(
        tmp_path,
        """
        otelkit.bootstrap("x", otlp_endpoint="http://me:s3cret@127.0.0.1:9/?k=s3cret")
        try:
            otelkit.bootstrap("x", otlp_endpoint="http://me:s3cret@127.0.0.1:10")
        except otelkit.AlreadyConfigured as error:
            print(error)
        print(otelkit.status()["exporters"])
        """,
    )
    assert "otlp_endpoint" in finished.out
    assert "s3cret" not in finished.out + finished.err


def test_an_explicit_call_after_an_automatic_start_opens_again(tmp_path: Path, sink: Sink) -> None:
    """With its own settings; an automatic start after any other does nothing."""
    run(
        tmp_path,
        """
        from otelkit.wiring import start_automatically
        first = start_automatically()
        with otelkit.span("first"): pass
        second = otelkit.bootstrap("explicit")
        assert second is not first
        assert start_automatically() is second
        with otelkit.span("second"): pass
        """,
        sink,
        OTEL_SERVICE_NAME="automatic",
    )
    services = {span.name: span.resource["service.name"] for span in sink.spans}
    assert services == {"first": "automatic", "second": "explicit"}


def test_a_start_in_a_thread_works_without_a_signal_handler(tmp_path: Path, sink: Sink) -> None:
    """Only the main thread may set one; nothing is raised, and the end of the process still sends."""
    run(
        tmp_path,
        """
        import signal
        thread = threading.Thread(target=otelkit.bootstrap, args=("x",))
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with otelkit.span("one"): pass
        """,
        sink,
    )
    assert names(sink) == ["one"]


def test_no_thread_no_socket_and_no_file_before_the_first_record(tmp_path: Path, sink: Sink) -> None:
    """A start only arranges things."""
    finished = run(
        tmp_path,
        """
        before = set(os.listdir("/proc/self/fd"))
        otelkit.bootstrap("x")
        print(threading.active_count(), len(set(os.listdir("/proc/self/fd")) - before), os.path.exists("state"))
        otelkit.event("first")
        print(threading.active_count(), os.path.exists("state"))
        """,
        sink,
    )
    assert finished.out.split() == ["1", "0", "False", "3", "True"]
    assert [log.body for log in sink.logs][:2] == ["application starting", "first"]


def test_a_start_after_a_fork_is_the_childs_own(tmp_path: Path, sink: Sink) -> None:
    """Parent and children without telemetry before; each has its own identity."""
    run(
        tmp_path,
        """
        children = []
        for number in range(2):
            pid = os.fork()
            if pid == 0:
                otelkit.bootstrap("x")
                with otelkit.span(f"child {number}"): pass
                os._exit(0 if otelkit.shutdown(5).ok else 1)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
        otelkit.bootstrap("x")
        with otelkit.span("parent"): pass
        """,
        sink,
    )
    assert names(sink) == ["child 0", "child 1", "parent"]
    assert len({span.resource["service.instance.id"] for span in sink.spans}) == 3


def test_an_explicit_instance_id_gets_the_childs_pid(tmp_path: Path, sink: Sink) -> None:
    """It stays recognisable and becomes unique."""
    run(
        tmp_path,
        """
        otelkit.bootstrap("x")
        with otelkit.span("parent"): pass
        otelkit.flush(10)
        pid = os.fork()
        if pid == 0:
            with otelkit.span("child"): pass
            os._exit(0 if otelkit.flush(10).ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        sink,
        OTEL_RESOURCE_ATTRIBUTES="service.instance.id=mine",
    )
    found = {span.name: (span.resource["service.instance.id"], span.resource["process.pid"]) for span in sink.spans}
    assert found["parent"][0] == "mine"
    assert found["child"][0].startswith("mine")
    assert str(found["child"][1]) in found["child"][0]


def test_after_a_shutdown_a_new_start_works(tmp_path: Path, sink: Sink) -> None:
    """With other settings; what was made before lives; records in between are counted and dropped."""
    finished = run(
        tmp_path,
        """
        @otelkit.traced("kept")
        def kept(): pass
        otelkit.bootstrap("one")
        kept()
        assert otelkit.shutdown().ok
        assert otelkit.status()["state"] == "ended"
        kept()
        print(json.dumps(otelkit.shutdown().dropped))
        otelkit.bootstrap("two")
        kept()
        print(otelkit.status()["state"])
        """,
        sink,
    )
    dropped, state = finished.out.splitlines()
    assert json.loads(dropped) == {"after_shutdown": 1}
    assert state == "running"
    assert [span.resource["service.name"] for span in sink.named("kept")] == ["one", "two"]


def test_calls_before_the_start_are_counted_and_told_once(tmp_path: Path, sink: Sink) -> None:
    """They raise nothing; what was only made before becomes live."""
    finished = run(
        tmp_path,
        """
        from opentelemetry import trace
        tracer = trace.get_tracer("library")
        @otelkit.traced("decorated")
        def decorated(): pass
        @otelkit.metrics.counter("made.before")
        def made(): "Made."
        decorated()
        with otelkit.span("lost"): pass
        otelkit.count("lost.count")
        otelkit.event("lost")
        otelkit.exception(ValueError("lost"))
        made.add(1)
        otelkit.bind(user=1)
        otelkit.unbind()
        assert otelkit.flush().ok and otelkit.shutdown().ok
        otelkit.bootstrap("x")
        decorated()
        made.add(3)
        otelkit.count("lost.count")
        with tracer.start_as_current_span("library's"): pass
        print(otelkit.status()["before_bootstrap"])
        """,
        sink,
    )
    assert finished.err.count("was called before otelkit.bootstrap()") == 1
    assert int(finished.out) == 6
    assert names(sink) == ["decorated", "library's"]
    assert sink.total("made.before") == 3
    assert sink.total("lost.count") == 1


def test_a_metric_whose_name_is_not_allowed_keeps_nothing_from_starting(tmp_path: Path, sink: Sink) -> None:
    """Asked for before bootstrap it measures nothing, and that is said; afterwards its creation raises."""
    finished = run(
        tmp_path,
        """
        from opentelemetry import metrics
        meter = metrics.get_meter("library")
        bad = [meter.create_counter("1 bad"), meter.create_histogram("2 bad"), meter.create_counter(3)]
        meter.create_observable_gauge("4 bad", [lambda options: [metrics.Observation(1)]])
        good = meter.create_counter("good")
        otelkit.bootstrap("x")
        bad[0].add(1); bad[1].record(1); bad[2].add(1); good.add(2)
        try: meter.create_counter("5 bad")
        except Exception as error: print(error)
        """,
        sink,
    )
    assert finished.out.startswith("Expected ASCII string")
    assert [finished.err.count(f"the metric {name} failed") for name in ("'1 bad'", "'2 bad'", "3", "'4 bad'")] == 4 * [
        1
    ]
    assert sink.total("good") == 2


FOREIGN = """
        from opentelemetry import trace, metrics, _logs
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk._logs import LoggerProvider
        trace.set_tracer_provider(TracerProvider())
        metrics.set_meter_provider(MeterProvider())
        _logs.set_logger_provider(LoggerProvider())
"""


def test_with_someone_elses_providers_otelkit_attaches_and_says_so(tmp_path: Path, sink: Sink) -> None:
    """Their spans, metrics and records arrive through the pipeline, also after a second opening."""
    finished = run(
        tmp_path,
        FOREIGN
        + """
        otelkit.bootstrap("x")
        with otelkit.span("first"): pass
        otelkit.count("foreign.count")
        otelkit.event("foreign event")
        otelkit.shutdown()
        otelkit.bootstrap("y")
        with otelkit.span("second"): pass
        print(otelkit.status()["foreign_providers"])
        """,
        sink,
    )
    assert "attached to someone else's provider: traces, metrics, logs" in finished.err
    assert finished.out.strip() == "['traces', 'metrics', 'logs']"
    assert names(sink) == ["first", "second"]
    assert "foreign event" in [log.body for log in sink.logs]
    assert "foreign.count" in {metric.name for metric in sink.metrics}


@pytest.mark.parametrize("signal", ["TRACES", "METRICS", "LOGS"])
def test_with_someone_elses_providers_a_signal_that_is_switched_off_stays_off(
    tmp_path: Path, sink: Sink, signal: str
) -> None:
    """And the other two go on."""
    switched_off: dict[str, Any] = {f"OTEL_{signal}_EXPORTER": "none"}
    finished = run(
        tmp_path,
        FOREIGN
        + """
        otelkit.bootstrap("x")
        with otelkit.span("a span"): pass
        otelkit.count("a.count")
        otelkit.event("an event")
        report = otelkit.flush(5)
        print(report.ok, report.in_memory)
        with otelkit.span("another span"): pass
        otelkit.event("another event")
        print(otelkit.flush(5).ok)
        """,
        sink,
        **switched_off,
    )
    assert finished.out.split() == ["True", "0", "True"]
    assert bool(sink.spans) is (signal != "TRACES")
    assert bool(sink.metrics) is (signal != "METRICS")
    assert bool(sink.logs) is (signal != "LOGS")


def test_strict_refuses_someone_elses_providers(tmp_path: Path, sink: Sink) -> None:
    """With the signals and the remedy; nothing is attached, and without strict the next call attaches."""
    finished = run(
        tmp_path,
        FOREIGN
        + """
        from opentelemetry.sdk.trace import SpanProcessor
        added = []
        trace.get_tracer_provider().add_span_processor = added.append
        try:
            otelkit.bootstrap("x")
        except otelkit.AlreadyConfigured as error:
            print(error)
        print(added, otelkit.status()["state"])
        otelkit.bootstrap("x", strict=False)
        print(len(added), otelkit.status()["state"])
        """,
        sink,
        OTELKIT_STRICT="1",
    )
    told, refused, attached = finished.out.splitlines()
    assert told.startswith("OpenTelemetry has someone else's provider already, for traces, metrics, logs.")
    assert "Nothing is started while OTELKIT_STRICT is on: call otelkit.bootstrap before" in told
    assert refused == "[] not started"
    assert attached == "2 running"


def test_strict_has_nothing_against_someone_elses_provider_where_it_is_switched_off(tmp_path: Path) -> None:
    """OTEL_SDK_DISABLED attaches to nobody."""
    source = FOREIGN + '\n        otelkit.bootstrap("x")\n        print(otelkit.status()["state"])'
    finished = run(tmp_path, source, OTELKIT_STRICT="1", OTEL_SDK_DISABLED="true")
    assert finished.out == "disabled\n"


def test_a_refused_start_leaves_nothing_behind(tmp_path: Path) -> None:
    """An unknown library under strict: what was instrumented until then is given back, and a correct call starts."""
    finished = run(
        tmp_path,
        """
        methods = dict(vars(logging.Logger))
        try:
            otelkit.bootstrap("x", instrument={"nosuchlib": "off", "logging": "otelkit"})
        except otelkit.UnsupportedLibrary as error:
            print("told")
        print(dict(vars(logging.Logger)) == methods, otelkit.status()["state"], threading.active_count())
        otelkit.bootstrap("x")
        print(otelkit.status()["state"])
        """,
        OTELKIT_STRICT="1",
    )
    assert finished.out.splitlines() == ["told", "True not started 1", "running"]


def test_the_handle_has_what_its_holder_may_call(tmp_path: Path, sink: Sink) -> None:
    """The service's name, flush, shutdown and status; after its shutdown the same call starts again."""
    finished = run(
        tmp_path,
        """
        handle = otelkit.bootstrap("x")
        print(*(name for name in dir(handle) if not name.startswith("_")))
        with otelkit.span("one"): pass
        print(handle.service, handle.flush().ok, handle.status()["state"])
        print(handle.shutdown().ok, handle.status()["state"], otelkit.status()["state"])
        again = otelkit.bootstrap("x")
        with otelkit.span("two"): pass
        print(again is handle, again.status()["state"])
        """,
        sink,
    )
    assert finished.out.splitlines() == [
        "flush service shutdown status",
        "x True running",
        "True ended ended",
        "False running",
    ]
    assert names(sink) == ["one", "two"]


@pytest.mark.slow
def test_what_is_said_before_the_start_has_a_level_and_a_name(tmp_path: Path) -> None:
    """The standard library's last resort prints neither; a handler of the application's is the only one."""
    first, *others = run(tmp_path, "otelkit.count('early')").err.splitlines()
    assert first.startswith("WARNING otelkit: otelkit metric 'early' was called before otelkit.bootstrap()")
    assert others == []
    for logger in ("", "otelkit"):
        before = f"logging.getLogger({logger!r}).addHandler(logging.StreamHandler(sys.stdout))\n"
        finished = run(tmp_path, before + "otelkit.count('early')")
        assert finished.out.startswith("otelkit metric 'early' was called")
        assert finished.err == ""


def test_a_time_out_that_was_hardly_meant_is_one_warning(tmp_path: Path, sink: Sink) -> None:
    """It counts, and the unit is named; the same call again says nothing."""
    finished = run(
        tmp_path,
        "otelkit.bootstrap('x')\notelkit.bootstrap('x')\nprint(otelkit.status()['problems'])",
        sink,
        OTEL_EXPORTER_OTLP_TIMEOUT="10",
        OTELKIT_STRICT="1",
    )
    assert finished.err.count("10 milliseconds") == 1
    assert "WARNING otelkit: OTEL_EXPORTER_OTLP_TIMEOUT='10' is 10 milliseconds" in finished.err
    assert "10 milliseconds" in finished.out


def test_a_start_at_the_import_of_a_library_is_the_applications_start(tmp_path: Path, sink: Sink) -> None:
    """The application's own explicit call with other settings is told so; the same settings are fine."""
    (tmp_path / "lib.py").write_text("import otelkit\notelkit.bootstrap('library')\n")
    finished = run(
        tmp_path,
        """
        sys.path.insert(0, os.getcwd())
        import lib
        try:
            otelkit.bootstrap("application")
        except otelkit.AlreadyConfigured as error:
            print("told:", error)
        with otelkit.span("one"): pass
        """,
        sink,
    )
    assert "service_name: 'library' before, 'application' now" in finished.out
    assert sink.spans[0].resource["service.name"] == "library"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER='sometimes'"),
        ({"OTEL_PROPAGATORS": "tracecontext,ottrace"}, "OTEL_PROPAGATORS"),
        ({"OTEL_CONFIG_FILE": "x.yaml"}, "OTEL_CONFIG_FILE is set and does nothing"),
        ({"OTELKIT_STATE_DIR": "/proc/nowhere"}, "the ledger's page cannot be made"),
        *slow(
            ({"OTEL_PYTHON_ID_GENERATOR": "xray"}, "OTEL_PYTHON_ID_GENERATOR='xray'"),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "not a url"}, "OTEL_EXPORTER_OTLP_ENDPOINT='not a url'"),
            ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL='http/json'"),
            ({"OTELKIT_INSTRUMENT_NOSUCHLIB": "off"}, "OTELKIT_INSTRUMENT_NOSUCHLIB"),
        ),
    ],
)
def test_a_wrong_setting_names_itself_and_never_stops_the_application(
    tmp_path: Path, environ: dict[str, Any], named: str
) -> None:
    """One WARNING; strict raises it instead (a page that cannot be made is no setting's fault)."""
    source = "otelkit.bootstrap('x')\nwith otelkit.span('one'): pass\nprint('alive')"
    finished = run(tmp_path, source, **environ)
    assert finished.out == "alive\n"
    assert sum(named in line for line in finished.err.splitlines() if line.startswith("WARNING")) == 1, finished.err
    if "STATE_DIR" not in str(environ):
        strict = run(tmp_path, source, check=False, OTELKIT_STRICT="1", **environ)
        assert strict.code == 1
        assert named in strict.err
        assert "using the default" not in strict.err


def test_a_wrong_keyword_argument_always_raises(tmp_path: Path) -> None:
    """It is the programmer's, and shows at the first start."""
    finished = run(
        tmp_path,
        """
        for arguments in ({"service_nam": "x"}, {"traces_sampler": "sometimes"}, {"app": object()}):
            try:
                otelkit.bootstrap(**arguments)
            except otelkit.ConfigurationError as error:
                print(error)
        otelkit.bootstrap("x")
        print("alive")
        """,
    )
    lines = finished.out.splitlines()
    assert "did you mean 'service_name'" in lines[0]
    assert "traces_sampler='sometimes'" in lines[1]
    assert "neither a FastAPI nor a Starlette application" in lines[2]
    assert lines[3] == "alive"


def test_disabled_means_that_nothing_happens_but_propagation(tmp_path: Path, sink: Sink) -> None:
    """OTEL_SDK_DISABLED: the API works and records nothing, incoming context goes on to the next service."""
    finished = run(
        tmp_path,
        """
        from opentelemetry import propagate, context
        otelkit.bootstrap("x")
        incoming = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        token = context.attach(propagate.extract(incoming))
        with otelkit.span("one"):
            otelkit.count("a.b")
            otelkit.event("e")
            outgoing = {}
            propagate.inject(outgoing)
        print(outgoing["traceparent"].split("-")[1], threading.active_count(), otelkit.status()["state"])
        assert otelkit.flush().ok and otelkit.shutdown().ok
        print(otelkit.status()["state"])
        """,
        sink,
        OTEL_SDK_DISABLED="true",
    )
    assert finished.out.split() == ["0af7651916cd43dd8448eb211c80319c", "1", "disabled", "ended"]
    assert sink.requests == []


def test_the_status_is_plain_data_at_every_stage(tmp_path: Path, sink: Sink) -> None:
    """Not started, running, ended: always something that json can write."""
    finished = run(
        tmp_path,
        """
        states = [otelkit.status()]
        otelkit.bootstrap("x")
        with otelkit.span("one"): pass
        otelkit.flush()
        states.append(otelkit.status())
        otelkit.shutdown()
        states.append(otelkit.status())
        print(json.dumps(states))
        """,
        sink,
    )
    before, running, ended = json.loads(finished.out)
    assert [stage["state"] for stage in (before, running, ended)] == ["not started", "running", "ended"]
    traces = running["ledger"]["traces"]
    assert (traces["accepted"], traces["delivered"]) == (1, 1)
    assert running["exporters"]["traces"]["destination"] == f"{sink.url}/v1/traces"


@pytest.mark.slow
def test_what_was_emitted_arrives_without_any_call_at_the_end(tmp_path: Path, sink: Sink) -> None:
    """A script that simply ends, and one that fails."""
    run(tmp_path, "otelkit.bootstrap('x')\nwith otelkit.span('ends'): pass\notelkit.count('a.b', 4)", sink)
    failed = run(tmp_path, "otelkit.bootstrap('x')\nwith otelkit.span('fails'): raise SystemError", sink, check=False)
    assert failed.code == 1
    assert names(sink) == ["ends", "fails"]
    assert sink.total("a.b") == 4


def test_a_hung_collector_holds_the_end_of_the_process_for_its_budget_alone(tmp_path: Path, sink: Sink) -> None:
    """Over all signals."""
    from tests.support.sink import Answer

    sink.answer = lambda path: Answer(after_s=60)
    finished = run(
        tmp_path,
        """
        import atexit, time
        began = [0.0]
        atexit.register(lambda: print(time.monotonic() - began[0], flush=True))
        otelkit.bootstrap("x")
        with otelkit.span("one"): pass
        otelkit.event("e")
        otelkit.count("a.b")
        began[0] = time.monotonic()
        """,
        sink,
        OTELKIT_SHUTDOWN_TIMEOUT_S="1",
    )
    assert float(finished.out) < 1.3


def test_sampling_by_ratio_and_switching_off(tmp_path: Path, sink: Sink) -> None:
    """Unsampled spans are no records: they are not accepted, so nothing is missing."""
    finished = run(
        tmp_path,
        """
        otelkit.bootstrap("x")
        with otelkit.span("outer"):
            with otelkit.span("inner"): pass
        otelkit.flush()
        print(otelkit.status()["ledger"]["traces"]["accepted"])
        """,
        sink,
        OTEL_TRACES_SAMPLER="always_off",
    )
    assert finished.out.split() == ["0"]
    assert sink.spans == []
