"""What HTTP servers have in common: nothing of a request becomes a label or a leak by accident."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelkit.instrumentation.http import REDACTED, captured_headers, known_method, request_id

ALL = (re.compile(".*"),)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])
def test_known_methods_are_themselves(method: str) -> None:
    """Those of RFC 9110 and PATCH."""
    assert known_method(method) == method


@given(st.text())
def test_made_up_methods_are_one_label(method: str) -> None:
    """A scanner must not make a series a request (GHSA-5rv5-6h4r-h22v)."""
    found = known_method(method)
    assert found in ("_OTHER", method)
    assert re.fullmatch("[A-Z_]{3,7}", found)


@pytest.mark.parametrize("header", ["abc", "4bf92f35-77b3", "a:b/c+d=e@f.g_h", "x" * 128])
def test_a_harmless_request_id_is_kept(header: str) -> None:
    """The caller's, so that both sides can speak of the same request."""
    assert request_id(header) == header


@pytest.mark.parametrize(
    "header", [None, "", "x" * 129, "a b", "a\r\nSet-Cookie: x", "a\n", "<script>", "ü", "a\x00", '"']
)
def test_any_other_request_id_is_replaced(header: str | None) -> None:
    """It goes into response headers, logs and labels."""
    made = request_id(header)
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert request_id(header) != made


@given(st.text())
def test_a_request_id_never_needs_quoting(header: str) -> None:
    """In no header, log line or shell."""
    assert re.fullmatch(r"[A-Za-z0-9._:/+=@-]{1,128}", request_id(header))


def test_only_wanted_headers_are_captured_and_repeated_ones_together() -> None:
    """Names are matched whole, in lower case; the attribute is a list."""
    headers = [(b"X-Tenant", b"a"), (b"x-tenant", b"b"), (b"x-tenant-id", b"c"), (b"accept", b"d")]
    assert captured_headers("request", headers, (re.compile("x-tenant"),), ()) == {
        "http.request.header.x-tenant": ["a", "b"]
    }
    assert captured_headers("response", headers, (), ()) == {}


SECRETS = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "x-apikey",
    "api_key",
    "x-auth-token",
    "x-csrf-token",
    "x-amz-security-token",
    "x-hub-signature",
    "client-secret",
    "x-session-id",
    "x-password",
    "x-amz-credential",
]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_well_known_secrets_are_always_redacted(name: str, case: type[str]) -> None:
    """Even where somebody captures everything."""
    (values,) = captured_headers("request", [(case(name).encode(), b"s3cret")], ALL, ()).values()
    assert values == [REDACTED]


def test_further_secrets_can_be_named() -> None:
    """OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS."""
    headers = [(b"x-tenant", b"s3cret"), (b"x-other", b"open")]
    assert captured_headers("request", headers, ALL, (re.compile("x-ten.*"),)) == {
        "http.request.header.x-tenant": [REDACTED],
        "http.request.header.x-other": ["open"],
    }


@given(st.lists(st.tuples(st.binary(max_size=10), st.binary(max_size=10)), max_size=5))
def test_any_bytes_of_a_header_are_captured_without_an_error(headers: list[tuple[bytes, bytes]]) -> None:
    """HTTP does not promise an encoding."""
    found = captured_headers("request", headers, ALL, ())
    assert sum(len(values) for values in found.values()) <= len(headers)
