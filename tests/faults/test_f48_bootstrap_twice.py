"""`bootstrap` is called twice: the same settings are no-op, others an error, and one thing is never recorded twice."""

from __future__ import annotations

from pathlib import Path

from tests.support.process import Finished, run_python
from tests.support.sink import Sink


def run(source: str, sink: Sink, place: Path) -> Finished:
    """A snippet that delivers to the sink."""
    return run_python(source, cwd=place, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})


def test_one_of_each_is_one_of_each(tmp_path: Path, sink: Sink) -> None:
    """A request, its statement, its log line, its exception and its count; official instrumentations make 2 spans of
    1. As where the application bootstraps, and a library or a second entry point does so too.
    """
    source = """
    import logging, otelkit
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    import sqlalchemy
    app = FastAPI()
    engine = sqlalchemy.create_engine("sqlite://")

    @app.get("/")
    def index():
        otelkit.count("visits")
        logging.getLogger("shop").warning("here")
        with otelkit.span("inside"), engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))

    first = otelkit.bootstrap("shop", app=app)
    assert otelkit.bootstrap("shop", app=app) is first
    assert otelkit.bootstrap("shop") is first
    with TestClient(app) as client:
        assert client.get("/").status_code == 200
    assert otelkit.bootstrap("shop") is first
    assert otelkit.flush(10).ok
    """
    finished = run(source, sink, tmp_path)
    assert finished.err.count("INFO otelkit: otelkit ") == 1
    assert sorted(span.name for span in sink.spans) == ["GET /", "SELECT", "inside"]
    assert sink.total("visits") == sink.total("http.server.request.duration") == 1
    assert sink.total("db.client.operation.duration") == 1
    assert [log.body for log in sink.logs if log.scope == "shop"] == ["here"]


def test_other_settings_are_an_error_that_names_them(tmp_path: Path, sink: Sink) -> None:
    """Secrets masked; the first telemetry goes on, and its spans are recorded once."""
    source = """
    import otelkit
    otelkit.bootstrap("x", otlp_headers={"authorization": "s3cret-one"})
    try:
        otelkit.bootstrap("y", otlp_headers={"authorization": "s3cret-two"})
    except otelkit.AlreadyConfigured as error:
        print(error)
    with otelkit.span("one"): pass
    """
    finished = run(source, sink, tmp_path)
    assert "service_name: 'x' before, 'y' now" in finished.out
    assert "otlp_headers" in finished.out
    assert "otelkit.shutdown()" in finished.out
    assert "s3cret" not in finished.out + finished.err
    assert [(span.name, span.resource["service.name"]) for span in sink.spans] == [("one", "x")]


def test_calls_of_many_threads_at_once_are_one_start(tmp_path: Path, sink: Sink) -> None:
    """Each gets the same handle."""
    source = """
    import threading, otelkit
    handles, barrier = [], threading.Barrier(8)
    def work():
        barrier.wait()
        handles.append(otelkit.bootstrap("x"))
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(len(handles), len(set(map(id, handles))))
    with otelkit.span("one"): pass
    """
    finished = run(source, sink, tmp_path)
    assert finished.out.split() == ["8", "1"]
    assert finished.err.count("INFO otelkit: otelkit ") == 1
    assert [span.name for span in sink.spans] == ["one"]
