"""FastAPI and Starlette in all the ways that applications use them: every span, its parent, and every measurement."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Exported, Serve
from tests.integration.web_apps import CASES
from tests.integration.web_cases import SECRET, Case

DURATION = "http.server.request.duration"


@pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")  # uvicorn of 2024
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.noun)
def test_what_is_recorded(start, serve: Serve, case: Case) -> None:  # type: ignore[no-untyped-def]
    """Exactly these spans under these parents, exactly these series, and no value of a client's anywhere."""
    app = case.app() if case.before else None
    exported: Exported = start(**case.settings)
    with serve(app if app is not None else case.app(), **case.served) as url:
        case.ask(url)
        exported.wait_for_spans(len(case.spans))
    spans = exported.spans
    expected = sorted(case.spans, key=lambda span: span.name)
    found = sorted(spans, key=lambda span: span.name)
    assert [span.name for span in found] == [span.name for span in expected]
    names = {span.span_id: span.name for span in spans}
    for wanted, span in zip(expected, found, strict=True):
        assert names.get(span.parent_id, span.parent_id) == wanted.under, span.name
        assert (span.span.kind, span.span.status.code) == (wanted.kind, wanted.status), span.name
        assert {name: span.attributes.get(name) for name in wanted.has} == dict(wanted.has), span.name
        assert not span.attributes.keys() & set(wanted.lacks), (span.name, span.attributes)
    assert measured(exported) == sorted((sorted(each.items(), key=str) for each in case.measured), key=str)
    for metric, series in case.metrics.items():
        assert {
            tuple(dict(labels).items()): values[-1] for (_, labels), values in exported.sink.series(metric).items()
        } == series
    assert exported.total("http.server.active_requests") == 0
    records = exported.logs("otelkit.exceptions")
    assert [record.attributes["exception.type"] for record in records] == list(case.exceptions)
    assert SECRET not in str([exported.sink.spans, exported.sink.logs, exported.sink.metrics])


def measured(exported: Exported) -> list[list[tuple[str, object]]]:
    """The labels of the duration's series, each as often as it counted."""
    found = []
    for (_, labels), counts in exported.sink.series(DURATION).items():
        found += [sorted(labels, key=str)] * int(counts[-1])
    return sorted(found, key=str)
