"""The pytest plugin as its users see it: whole pytest runs of their own, with its outcomes and its output."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.process import run_python
from tests.support.sink import Sink

pytest_plugins = ["pytester"]

SHOP = """
import logging
import otelkit

SELECT = {"db.system.name": "sqlite", "db.query.text": "SELECT * FROM items WHERE id = ?"}

def place_order(queries=1):
    with otelkit.span("POST /orders", _kind="server"):
        for _ in range(queries):
            with otelkit.span("SELECT items", SELECT, _kind="client"):
                pass
        otelkit.count("orders.placed", plan="pro")
        logging.getLogger("shop").warning("stock is low")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project with a small shop in it; warnings are errors, unknown marks too."""
    monkeypatch.setenv("COLUMNS", "120")
    # pytest's summary is longer there.
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("BUILD_NUMBER", raising=False)
    monkeypatch.setenv("OTELKIT_STATE_DIR", str(pytester.path / "state"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), os.environ.get("PYTHONPATH", "")]))
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error\n"
    )
    pytester.makepyfile(shop=SHOP)
    return pytester


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """A pytest run in a process of its own, with a deadline."""
    return suite.runpytest_subprocess(*arguments, timeout=60)


@pytest.mark.slow
def test_each_test_sees_its_own_telemetry_alone(suite: pytest.Pytester) -> None:
    """In any order and in several worker processes; metrics begin at zero in each."""
    suite.makepyfile(
        """
        import pytest
        from shop import place_order

        @pytest.mark.parametrize("number", range(1, 9))
        def test_orders(telemetry, number):
            for _ in range(number):
                place_order()
            assert len(telemetry.spans.named("POST /orders")) == number
            assert telemetry.metrics.value("orders.placed", plan="pro") == number
            assert len(telemetry.logs.with_text("stock is low").at_level("warning")) == number

        def test_nothing(telemetry):
            assert not telemetry.spans
            assert telemetry.metrics.value("orders.placed") == 0
            assert not telemetry.logs
        """
    )
    run(suite).assert_outcomes(passed=9)
    run(suite, "-n", "2").assert_outcomes(passed=9)


@pytest.mark.slow
def test_a_failed_test_shows_its_tree(suite: pytest.Pytester) -> None:
    """In the message of `one()`, and in a section of its own where the message does not have it."""
    suite.makepyfile(
        """
        from shop import place_order

        def test_one(telemetry):
            place_order()
            telemetry.spans.named("POST /order").one()

        def test_plain(telemetry):
            place_order()
            assert len(telemetry.spans) == 7

        def test_value(telemetry):
            place_order()
            assert telemetry.metrics.value("orders.placd") == 1

        def test_passes(telemetry):
            place_order()
        """
    )
    result = run(suite)
    result.assert_outcomes(failed=3, passed=1)
    tree = ["* ms *POST /orders  *trace ????????????????????????????????", "* SELECT items  SELECT [*] FROM items*"]
    result.stdout.fnmatch_lines(
        [
            "*_ test_one _*",
            "E*0 spans match, expected 1",
            *[f"E{line}" for line in tree],
            "E* WARNING stock is low  shop",
            "*_ test_plain _*",
            "E*assert 2 == 7",
            "*- Captured telemetry call -*",
            *tree,
            "*_ test_value _*",
            "E*assert 0 == 1",
            "E*orders.placed{plan=pro} 1",
            "*- Captured telemetry call -*",
        ]
    )
    text = result.stdout.str()
    assert text.count("SELECT items  SELECT") == 3
    assert "otelkit/testing/" not in text, "the frames of the plugin are none of the reader's business"


@pytest.mark.slow
def test_a_budget_that_is_exceeded_fails_the_test(suite: pytest.Pytester) -> None:
    """With the repeated statement and the tree; the fixture need not be asked for."""
    suite.makepyfile(
        """
        import pytest
        from shop import place_order

        @pytest.fixture
        def stocked():
            place_order(queries=50)

        @pytest.mark.telemetry(max_queries=3)
        def test_within(stocked):
            place_order(queries=3)

        @pytest.mark.telemetry(max_queries=3)
        def test_too_many_queries(stocked):
            place_order(queries=9)

        @pytest.mark.telemetry(max_spans=2, max_duration_s=0)
        class TestBudgetsOfAClass:
            def test_both(self):
                place_order(queries=2)

            @pytest.mark.telemetry(max_duration_s=60)
            def test_the_inner_mark_wins(self):
                place_order(queries=1)

        @pytest.mark.telemetry(max_queries=0)
        def test_its_own_failure_comes_first(telemetry):
            place_order()
            assert False, "mine"

        @pytest.mark.xfail(strict=True)
        @pytest.mark.telemetry(max_queries=0)
        def test_expected():
            place_order()

        @pytest.mark.telemetry
        def test_without_a_budget(request):
            place_order()
            assert len(request.getfixturevalue("telemetry").spans) == 2
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=3, failed=3, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_too_many_queries _*",
            "the telemetry budget is exceeded:",
            "9 queries, 3 allowed",
            "  9 × SELECT [*] FROM items WHERE id = ?  (sqlite)",
            "* SELECT items × 9 *",
            "*_ TestBudgetsOfAClass.test_both _*",
            "3 spans, 2 allowed",
            "POST /orders took 0.0?? s, 0 s allowed",
            "*AssertionError: mine",
        ]
    )
    assert "1 queries, 0 allowed" not in result.stdout.str()


@pytest.mark.slow
def test_a_mark_that_is_wrong_names_itself(suite: pytest.Pytester) -> None:
    """Rather than holding nothing against nothing."""
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.telemetry(max_query=3)
        def test_typo():
            pass

        @pytest.mark.telemetry(3)
        def test_position():
            pass
        """
    )
    result = run(suite)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.telemetry: 'max_query' is no budget; there are max_queries, max_spans, max_duration_s",
            "@pytest.mark.telemetry: its budgets are keyword arguments: max_queries, max_spans, max_duration_s",
        ]
    )
    result = run(suite, "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.telemetry(max_queries=None, max_spans=None, max_duration_s=None): *"])


@pytest.mark.slow
def test_asynchronous_and_unittest_tests(suite: pytest.Pytester) -> None:
    """Coroutines, generators of fixtures and TestCase methods."""
    suite.makepyfile(
        """
        import unittest
        import anyio
        import otelkit
        import pytest
        from shop import place_order

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        async def resource():
            with otelkit.span("of the fixture"):
                await anyio.sleep(0)
            yield

        @pytest.mark.anyio
        async def test_coroutine(telemetry, resource):
            async def one(name):
                with otelkit.span(name):
                    await anyio.sleep(0)
                    place_order()
            with otelkit.span("root"):
                async with anyio.create_task_group() as group:
                    for name in "abc":
                        group.start_soon(one, name)
            assert [span.name for span in telemetry.spans.roots] == ["of the fixture", "root"]
            assert [span.name for span in telemetry.spans.named("root").one().children] == list("abc")

        @pytest.mark.anyio
        @pytest.mark.telemetry(max_queries=1)
        async def test_budget():
            await anyio.sleep(0)
            place_order(queries=2)

        class TestOfUnittest(unittest.TestCase):
            @pytest.mark.telemetry(max_queries=1)
            def test_budget(self):
                place_order(queries=2)

            @pytest.mark.usefixtures("telemetry")
            def test_fixture(self):
                place_order()
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["2 queries, 1 allowed", "2 queries, 1 allowed"])


@pytest.mark.slow
def test_an_application_that_bootstraps_in_a_test_exports_nothing(suite: pytest.Pytester) -> None:
    """In a fixture, in the test, again, and after its own shutdown; its settings hold but the exporters."""
    with Sink() as sink:
        suite.makepyfile(
            f"""
            import otelkit
            import pytest
            from shop import place_order

            ENDPOINT = {sink.url!r}

            @pytest.fixture
            def app():
                return otelkit.bootstrap("shop", otlp_endpoint=ENDPOINT, exception_signal="logs")

            def check(telemetry):
                place_order()
                assert telemetry.spans[0].otel.resource.attributes["service.name"] == "shop"
                assert len(telemetry.spans) == 2
                assert otelkit.flush().ok

            def test_before(app, telemetry):
                assert telemetry is not None

            def test_after(telemetry, app):
                check(telemetry)
                assert app.status()["exporters"]["traces"]["exporters"] == ["none"]
                with pytest.raises(ValueError, match="no"), otelkit.span("fails"):
                    raise ValueError("no")
                assert not telemetry.spans[-1].otel.events

            def test_twice(telemetry, app):
                again = otelkit.bootstrap("shop", otlp_endpoint=ENDPOINT, exception_signal="logs")
                assert again is app
                check(telemetry)

            def test_with_others_as_in_production(telemetry, app):
                with pytest.raises(otelkit.AlreadyConfigured):
                    otelkit.bootstrap("another")
                otelkit.shutdown()
                otelkit.bootstrap("shop", otlp_endpoint=ENDPOINT)
                check(telemetry)

            def test_environment(monkeypatch, telemetry):
                monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
                monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
                otelkit.bootstrap("shop")
                check(telemetry)

            def test_afterwards():
                assert otelkit.status()["state"] == "running"  # test_before's own, from before its capture
                otelkit.shutdown()
            """
        )
        result = run(suite, "-p", "no:randomly")
        result.assert_outcomes(passed=6)
        assert [span.name for span in sink.spans] == []
        assert [log.body for log in sink.logs] in ([], ["application starting"])


@pytest.mark.slow
def test_telemetry_from_before_is_set_aside_and_goes_on(suite: pytest.Pytester) -> None:
    """An application that bootstraps when it is imported exports from tests that do not capture, and from no other."""
    with Sink() as sink:
        suite.makepyfile(
            app=f"""
            import otelkit
            otelkit.bootstrap("shop", otlp_endpoint={sink.url!r}, capture_request_headers="x-tenant")
            """,
            test_app="""
            import app
            import otelkit
            from shop import place_order

            def test_1_exported():
                with otelkit.span("first"):
                    place_order()

            def test_2_captured(telemetry):
                assert otelkit.bootstrap("shop").status()["exporters"]["traces"]["exporters"] == ["none"]
                with otelkit.span("captured"):
                    place_order()
                assert len(telemetry.spans) == 3
                assert otelkit.flush().ok

            def test_3_keeps_its_settings(telemetry):
                with otelkit.span("captured too"):
                    place_order()
                assert telemetry.spans[0].otel.resource.attributes["service.name"] == "shop"

            def test_4_exported_again():
                with otelkit.span("last"):
                    place_order()
                assert otelkit.status()["state"] == "running"
                assert otelkit.flush().ok
            """,
        )
        result = run(suite)
        result.assert_outcomes(passed=4)
        roots = {span.name for span in sink.spans} - {"POST /orders", "SELECT items"}
        assert roots == {"first", "last"}
        assert len(sink.named("POST /orders")) == 2
        assert len([log for log in sink.logs if log.body == "stock is low"]) == 2


@pytest.mark.slow
def test_whoever_does_not_use_it_is_not_disturbed(suite: pytest.Pytester) -> None:
    """Nothing is started or captured for tests that do not ask; their own names win."""
    suite.makepyfile(
        test_own="""
        import logging
        import sys
        import threading
        import pytest

        @pytest.fixture
        def telemetry():
            return "my own"

        @pytest.mark.telemetry(whatever=1)
        def test_own(telemetry):
            assert telemetry == "my own"

        def test_nothing_is_loaded():
            loaded = {name for name in sys.modules if name.startswith("otelkit.testing")}
            assert loaded <= {"otelkit.testing", "otelkit.testing.plugin"}, loaded
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("otelkit")]
            assert logging.Logger.callHandlers.__module__ == "logging"
        """
    )
    run(suite).assert_outcomes(passed=2)
    suite.makepyfile(
        test_own="""
        import logging
        import otelkit

        def test_captured(telemetry):
            assert logging.Logger.callHandlers.__module__ != "logging"

        def test_the_next_one():
            assert logging.Logger.callHandlers.__module__ == "logging"
            assert otelkit.status()["state"] == "not started"
        """
    )
    run(suite).assert_outcomes(passed=2)


@pytest.mark.slow
def test_a_foreign_provider_is_captured_too(suite: pytest.Pytester) -> None:
    """Where the project's conftest has set providers of its own, otelkit attaches to them; each test sees its own."""
    suite.makepyfile(
        conftest="""
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
        metrics.set_meter_provider(MeterProvider(shutdown_on_exit=False))
        """,
        test_foreign="""
        import pytest
        from shop import place_order

        @pytest.mark.parametrize("number", [1, 2])
        def test_orders(telemetry, number):
            for _ in range(number):
                place_order()
            assert len(telemetry.spans) == 2 * number
            assert telemetry.metrics.value("orders.placed", plan="pro") == number
            assert len(telemetry.logs) == number
        """,
    )
    run(suite).assert_outcomes(passed=2)


@pytest.mark.slow
def test_skips_and_errors_are_left_alone(suite: pytest.Pytester) -> None:
    """A skipped test shows no tree, an error of a fixture stays that error."""
    suite.makepyfile(
        """
        import pytest
        from shop import place_order

        def test_skip(telemetry):
            place_order()
            pytest.skip("later")

        @pytest.fixture
        def broken(telemetry):
            raise LookupError("no database")

        @pytest.mark.telemetry(max_queries=1)
        def test_error(broken):
            pass
        """
    )
    result = run(suite, "-rA")
    result.assert_outcomes(skipped=1, errors=1)
    result.stdout.fnmatch_lines(["E*LookupError: no database"])
    assert "Captured telemetry" not in result.stdout.str()


def test_the_plugin_brings_nothing_along(tmp_path: Path) -> None:
    """Beside the package's own start it imports nothing: every pytest run loads it."""
    source = """
    import importlib.util, sys, types
    import pytest
    package = sys.modules["otelkit"] = types.ModuleType("otelkit")
    package.__path__ = list(importlib.util.find_spec("otelkit_there").submodule_search_locations)
    before = set(sys.modules)
    import otelkit.testing.plugin
    print(sorted(set(sys.modules) - before))
    """
    import otelkit

    (tmp_path / "otelkit_there").symlink_to(Path(otelkit.__file__).parent)
    printed = run_python(source, cwd=tmp_path, environ={"PYTHONPATH": str(tmp_path)}).out
    assert re.findall("'([^']+)'", printed) == ["otelkit.testing", "otelkit.testing.plugin"]
