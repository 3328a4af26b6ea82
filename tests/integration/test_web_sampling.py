"""Which requests are recorded, and whose trace they continue: by route, by a header, by who calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI

import otelkit
from tests.integration.conftest import Exported, Serve
from tests.support.server import get

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OUTSIDE, INSIDE = "203.0.113.7", "10.1.2.3"
FORCE = {"X-Record": "1"}


def caller(flags: str, forwarded_for: str | None = None) -> dict[str, str]:
    """The headers of a traced caller."""
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}", "baggage": "theirs=1"}
    return headers | ({"X-Forwarded-For": forwarded_for} if forwarded_for else {})


@dataclass(frozen=True)
class Case:
    """Settings, a request, and what becomes of it: `continued`, `linked` to the caller's span, or a `root`; None where
    nothing is recorded.
    """

    what: str
    becomes: str | None
    settings: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/orders/7"


NONE, ALL = {"traces_sampler": "parentbased_always_off"}, {"traces_sampler": "parentbased_always_on"}
FORCING = {**NONE, "sampling_force_header": "X-Record"}
CASES = [
    Case("no rate, no caller", "root"),
    # -- rates of routes
    Case("a route's rate of 0", None, {"sampling_routes": {"/orders/{id}": 0}}),
    Case("a route's rate of 1", "root", {**NONE, "sampling_routes": {"/orders/{id}": 1}}),
    Case("another route's rate", "root", {"sampling_routes": {"/orders": 0, "/orders/{id}/x": 0}}),
    Case("the rest of a path", None, {"sampling_routes": {"/orders/*": 0}}),
    Case("a parameter over segments", None, {"sampling_routes": {"/{rest:path}": 0}}),
    Case("a parameter within a segment", "root", {"sampling_routes": {"/{rest}": 0}}),
    Case("the first that fits", "root", {"sampling_routes": "/orders/{id:int}=1,/*=0"}),
    Case("the caller's decision is followed", "continued", {"sampling_routes": {"/*": 0}}, caller("01")),
    Case("the caller's decision against is followed", None, {"sampling_routes": {"/*": 1}}, caller("00")),
    Case("an outside caller's is not", None, {"sampling_routes": {"/*": 0}}, caller("01", OUTSIDE)),
    Case("a rate below a mount", None, {"sampling_routes": {"/mount/orders/{id}": 0}}, path="/mount/orders/7"),
    # -- the header that forces
    Case("forced", "root", FORCING, FORCE),
    Case("forced over the caller's decision", "continued", FORCING, {**FORCE, **caller("00")}),
    Case("forced over a route's rate", "root", {**FORCING, "sampling_routes": {"/*": 0}}, FORCE),
    Case("forced from a trusted proxy's client", "root", FORCING, {**FORCE, "X-Forwarded-For": INSIDE}),
    Case("forced from outside", None, FORCING, {**FORCE, "X-Forwarded-For": OUTSIDE}),
    Case("forced from outside behind two proxies", None, FORCING, {**FORCE, "X-Forwarded-For": f"{OUTSIDE}, {INSIDE}"}),
    Case("forced with a forged address", None, FORCING, {**FORCE, "X-Forwarded-For": f"{INSIDE}, {OUTSIDE}"}),
    Case("forced from outside, as RFC 7239 says it", None, FORCING, {**FORCE, "Forwarded": f'for="{OUTSIDE}:1"'}),
    Case("forced from no address", None, FORCING, {**FORCE, "X-Forwarded-For": "testclient"}),
    Case("forced with another value", None, FORCING, {"X-Record": "0"}),
    Case("forced without the setting", None, NONE, FORCE),
    Case("forced, nobody is trusted", None, {**FORCING, "trusted_callers": "none"}, FORCE),
    # -- callers
    Case("a caller", "continued", {}, caller("01")),
    Case("a caller that does not record", None, {}, caller("00")),
    Case("a caller behind a proxy", "continued", {}, caller("01", INSIDE)),
    Case("a caller from outside", "linked", {}, caller("01", OUTSIDE)),
    Case("a caller from outside that does not record", "linked", {}, caller("00", OUTSIDE)),
    Case("a caller from outside, own sampler against", None, NONE, caller("01", OUTSIDE)),
    Case("a caller from an unknown network", "linked", {"trusted_callers": "192.0.2.0/24"}, caller("01")),
    Case("a known caller", "continued", {"trusted_callers": "private,203.0.113.7"}, caller("01", OUTSIDE)),
    Case("everyone is trusted", "continued", {"trusted_callers": "*"}, caller("01", OUTSIDE)),
    Case("nobody is trusted", "linked", {"trusted_callers": "none"}, caller("01")),
    Case("a caller from outside by IPv6", "linked", {}, caller("01", "2001:db8::1")),
    Case("a caller within by IPv6", "continued", {}, caller("01", "[fd00::1]:80")),
]  # fmt: skip


def shop() -> FastAPI:
    """An application, and the same below a prefix."""
    app, mounted = FastAPI(), FastAPI()

    @app.get("/orders/{id}")
    @mounted.get("/orders/{id}")
    async def order(id: str) -> str:
        with otelkit.span("inside"):
            return id

    app.mount("/mount", mounted)
    return app


WAYS = [(case, False) for case in CASES] + [(case, True) for case in CASES if "X-Forwarded-For" in case.headers]


@pytest.mark.parametrize(
    ("case", "proxied"),
    [pytest.param(case, proxied, id=case.what + ", as the server says" * proxied) for case, proxied in WAYS],
)
def test_which_requests_are_recorded(
    start: Callable[..., Exported], asgi: Callable[..., int], case: Case, proxied: bool
) -> None:
    """All of a request's spans or none; either way it is measured."""
    exported = start(**case.settings)
    assert asgi(shop(), case.path, case.headers, proxied=proxied) == 200
    spans = {span.name: span for span in exported.spans}
    assert exported.total("http.server.request.duration") == 1
    if case.becomes is None:
        assert spans == {}
        return
    server = spans.pop(f"GET {case.path.replace('7', '{id}')}")
    assert [span.parent_id for span in spans.values()] == [server.span_id]
    links = [(link.trace_id.hex(), link.span_id.hex()) for link in server.span.links]
    if case.becomes == "continued":
        assert (server.trace_id, server.parent_id, links) == (TRACE, PARENT, [])
    else:
        assert server.trace_id != TRACE
        assert (server.parent_id, links) == ("", [(TRACE, PARENT)] if case.becomes == "linked" else [])


def test_a_rate_between(start: Callable[..., Exported], serve: Serve) -> None:
    """Of many requests about that part, each with all of its spans, and all of them are measured."""
    exported = start(sampling_routes={"/orders/{id}": 0.25})
    with serve(shop()) as url:
        for _ in range(200):
            get(f"{url}/orders/7")
    names = [span.name for span in exported.spans]
    assert 20 <= names.count("GET /orders/{id}") == names.count("inside") <= 80
    assert exported.total("http.server.request.duration") == 200
