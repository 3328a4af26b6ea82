"""`otelkit.bind`: values of a request or task on all of its spans and log records."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import anyio.to_thread

import otelkit
from otelkit.signals import correlation
from tests.support.started import Started


def test_bound_values_are_on_every_later_span_and_record_and_on_the_current_span(exported: Started) -> None:
    """`user_id` becomes `user.id`; what was there before the bind is left alone."""
    with otelkit.span("earlier"):
        pass
    with otelkit.span("current"):
        otelkit.bind(user_id=7, session_id="s", request_id="r", tenant="acme")
        with otelkit.span("later"):
            otelkit.event("seen")
    expected = {"user.id": 7, "session.id": "s", "request.id": "r", "tenant": "acme"}
    spans = exported.spans()
    assert spans["earlier"].attributes == {}
    assert spans["current"].attributes == expected
    assert spans["later"].attributes == expected
    (log,) = exported.logs()
    assert log.attributes == expected


def test_a_block_takes_its_values_back_and_restores_the_older_ones(exported: Started) -> None:
    """Also falsy ones."""
    otelkit.bind(tenant="outer", retry=0, flag=False)
    with otelkit.bind(tenant="inner", retry=1, flag=True, extra="x"), otelkit.span("inside"):
        pass
    with otelkit.span("outside"):
        pass
    spans = exported.spans()
    assert spans["inside"].attributes == {"tenant": "inner", "retry": 1, "flag": True, "extra": "x"}
    assert spans["outside"].attributes == {"tenant": "outer", "retry": 0, "flag": False}


def test_unbind_takes_back_by_the_name_that_was_bound(exported: Started) -> None:
    """One name by the keyword of bind; all without an argument; unknown names are no error."""
    otelkit.bind(user_id=7, tenant="acme")
    otelkit.unbind("user_id", "never bound")
    with otelkit.span("one"):
        pass
    otelkit.unbind()
    with otelkit.span("none"):
        pass
    spans = exported.spans()
    assert spans["one"].attributes == {"tenant": "acme"}
    assert spans["none"].attributes == {}


def test_an_explicit_attribute_of_a_record_wins_over_a_bound_value(exported: Started) -> None:
    """A bound value never overwrites what the record says itself."""
    otelkit.bind(tenant="bound")
    otelkit.event("seen", tenant="own")
    (log,) = exported.logs()
    assert log.attributes == {"tenant": "own"}


def test_tasks_started_in_a_request_share_what_it_binds(exported: Started) -> None:
    """Values bound in a child, a thread with the copied context, or later reach the whole request, and no other one."""

    async def request(user: int) -> None:
        token, _ = correlation.open_holder({"request.id": str(user)})
        try:

            async def child() -> None:
                otelkit.bind(user_id=user)

            await asyncio.create_task(child())
            context = contextvars.copy_context()
            await asyncio.get_running_loop().run_in_executor(None, context.run, lambda: otelkit.bind(thread=user))
            await asyncio.sleep(0)
            with otelkit.span(f"request {user}"):
                pass
        finally:
            correlation.close_holder(token)

    async def all_of_them() -> None:
        await asyncio.gather(*(request(user) for user in range(4)))
        with otelkit.span("afterwards"):
            pass

    asyncio.run(all_of_them())
    spans = exported.spans()
    for user in range(4):
        assert spans[f"request {user}"].attributes == {"request.id": str(user), "user.id": user, "thread": user}
    assert spans["afterwards"].attributes == {}


def test_the_requests_own_span_gets_values_bound_deeper_down(exported: Started) -> None:
    """The span that stands for the request carries the user, though another one is current."""
    with otelkit.span("request") as entry:
        token, holder = correlation.open_holder({})
        holder.entry_span = entry
        try:
            with otelkit.span("handler"):
                otelkit.bind(user_id=7)
        finally:
            correlation.close_holder(token)
    spans = exported.spans()
    assert spans["request"].attributes == spans["handler"].attributes == {"user.id": 7}


def test_a_plain_thread_sees_nothing_of_another_ones_values(exported: Started) -> None:
    """Outside of a request values hold in the present context alone."""
    otelkit.bind(tenant="main")

    def work() -> None:
        with otelkit.span("in the thread"):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert exported.spans()["in the thread"].attributes == {}


def test_closing_a_request_in_another_context_raises_nothing() -> None:
    """A stream that was broken off is closed wherever the event loop does it."""
    token, _ = contextvars.Context().run(correlation.open_holder, {"request.id": "r"})
    contextvars.Context().run(correlation.close_holder, token)
    assert correlation.bound() is None


def test_bound_values_do_not_leave_the_process() -> None:
    """They are no baggage: a third party's request headers carry the trace alone."""
    from opentelemetry import propagate

    otelkit.bind(user_id=7)
    try:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        assert "7" not in str({key: value for key, value in carrier.items() if key != "traceparent"})
    finally:
        otelkit.unbind()


def test_binding_a_value_that_is_none_is_no_error(exported: Started) -> None:
    """`bind(user_id=current_user_id)` for somebody who is not logged in."""
    otelkit.bind(user_id=None, tenant="acme")  # type: ignore[arg-type]
    with otelkit.span("anonymous"):
        otelkit.event("seen")
    assert exported.spans()["anonymous"].attributes["tenant"] == "acme"
    (log,) = exported.logs()
    assert log.attributes["tenant"] == "acme"


def test_blocks_of_tasks_that_run_at_the_same_time(exported: Started) -> None:
    """Each has its own value, whoever ends first, also in threads and tasks that it starts; the request has neither.

    What is bound within without a block is still the request's.
    """

    async def step(name: str, mine: asyncio.Event, others: asyncio.Event) -> None:
        with otelkit.bind(step=name, item=7), otelkit.span(f"step {name}"):
            mine.set()
            await others.wait()
            await asyncio.to_thread(otelkit.event, f"thread {name}")
            await asyncio.create_task(later(name))
            otelkit.bind(**{f"done_{name}": True}, item=8)
            otelkit.event(f"inner {name}")
        otelkit.event(f"after {name}")

    async def later(name: str) -> None:
        otelkit.event(f"task {name}")

    async def request() -> None:
        token, holder = correlation.open_holder({"request.id": "r"})
        with otelkit.span("request") as holder.entry_span:
            otelkit.bind(step="none")
            first, second = asyncio.Event(), asyncio.Event()
            await asyncio.gather(step("a", first, second), step("b", second, first))
            with otelkit.span("end"):
                pass
        correlation.close_holder(token)

    asyncio.run(request())
    spans, request_id = exported.spans(), {"request.id": "r"}
    logs = {str(log.record.event_name): log.attributes for log in exported.logs()}
    for name in "ab":
        own = {**request_id, "step": name, "item": 7}
        assert {**spans[f"step {name}"].attributes, "item": 7} == {**own, f"done_{name}": True}
        assert logs[f"thread {name}"].items() >= own.items()
        assert logs[f"task {name}"].items() >= own.items()
        assert logs[f"inner {name}"].items() >= {**own, "item": 8, f"done_{name}": True}.items()
        assert logs[f"after {name}"].items() >= {"step": "none"}.items()
        assert "item" not in logs[f"after {name}"]
    assert spans["end"].attributes == {**request_id, "step": "none", "done_a": True, "done_b": True}
    assert spans["request"].attributes.items() >= {"done_a": True, "done_b": True}.items()


def test_blocks_of_threads_that_run_at_the_same_time(exported: Started) -> None:
    """The same for a pool's threads within a request, and for those that the framework runs, which share more."""

    async def request() -> None:
        token, _ = correlation.open_holder({})
        met = threading.Barrier(2, timeout=10)

        def step(name: str) -> None:
            with otelkit.bind(step=name):
                met.wait()
                otelkit.event(name)
                met.wait()

        await asyncio.gather(*(asyncio.to_thread(step, name) for name in "ab"))
        otelkit.event("asyncio's")
        await asyncio.gather(*(anyio.to_thread.run_sync(step, name) for name in "cd"))
        otelkit.event("anyio's")
        correlation.close_holder(token)

    asyncio.run(request())
    found = {log.record.event_name: log.attributes for log in exported.logs()}
    assert found == {**{name: {"step": name} for name in "abcd"}, "asyncio's": {}, "anyio's": {}}


def test_a_block_that_is_left_in_another_context_is_over(exported: Started) -> None:
    """As a generator that somebody else closes; what was started in it does not keep its values."""
    token, _ = correlation.open_holder({"request.id": "r"})
    block = otelkit.bind(step="a")
    inside = contextvars.copy_context()
    inside.run(block.__enter__)
    contextvars.copy_context().run(block.__exit__, None, None, None)
    inside.run(otelkit.event, "inside")
    otelkit.event("outside")
    correlation.close_holder(token)
    assert [log.attributes for log in exported.logs()] == [{"request.id": "r"}] * 2
