"""Secrets do not leave the process: under a secret's name, or beginning as a credential does, in all three signals."""

from __future__ import annotations

import inspect
import logging
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import semconv
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, TraceFlags

import otelkit
from otelkit.delivery.encode import Encoder
from otelkit.delivery.records import Shared
from otelkit.engine.sdk_records import SdkSpan
from otelkit.semconv import TABLE
from otelkit.signals.redaction import Redaction
from tests.support.examples import examples
from tests.support.records import ALog
from tests.support.sink import attributes, plain
from tests.support.started import started

REDACTED = "[REDACTED]"
CONTEXT = SpanContext(1, 2, False, TraceFlags(1))

SECRET_KEYS = [
    "password",
    "PASSWORD",
    "user.password",
    "db.password",
    "dbPasswd",
    "old_password_1",
    "passphrase",
    "mysql_pwd",
    "smtp.pass",
    "secret",
    "client_secret",
    "clientSecret",
    "AWS_SECRET_ACCESS_KEY",
    "credential",
    "credentials",
    "apiKey",
    "api_key",
    "api-key",
    "APIKEY",
    "x.api.keys",
    "private_key",
    "accessKey",
    "signing-key",
    "encryption_key",
    "token",
    "access_token",
    "refreshToken",
    "csrftoken",
    "auth",
    "basicAuth",
    "Authorization",
    "proxyAuthorization",
    "cookie",
    "session_cookie",
    "cookies",
    "http.request.header.authorization",
    "http.request.header.proxy-authorization",
    "http.request.header.cookie",
    "http.response.header.set-cookie",
    "http.request.header.x-api-key",
    "http.request.header.x-auth-token",
]
HARMLESS_KEYS = [
    "session.id",
    "gen_ai.usage.input_tokens",
    "gen_ai.token.type",
    "http.route",
    "code.function.name",
    "messaging.message.id",
    "messaging.rabbitmq.destination.routing_key",
    "messaging.kafka.message.key",
    "feature_flag.key",
    "aws.secretsmanager.secret.arn",
    "db.query.text",
    "user.id",
    "token_count",
    "author",
    "authority",
    "authorized",
    "authorization.decision",
    "oauth.scope",
    "passenger",
    "keyboard",
    "monkey",
    "bypass",
    "compass",
    "passport.country",
    "secretary",
    "secret_name",
    "private_key_path",
    "credential.type",
    "cache_key",
    "idempotency-key",
    "cwd",
    "OLDPWD",
    "",
]
CREDENTIALS = [
    "Bearer x8Yd0qPz1LmN4rTv",
    "bearer xxxxxxxxxxxxxxxx",
    "Bearer  8f14e45fceea167a5a36dedd4bea2543",
    "Bearer mF_9.B5f-4.1JqM was refused",
    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    "basic YWxhZGRpbjpvcGVu",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "gho_16C7e42F292c6912E7710c838347Ae178B4a",
    "ghu_16C7e42F292c6912E7710c838347Ae178B4a",
    "ghs_16C7e42F292c6912E7710c838347Ae178B4a",
    "ghr_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
    "glpat-abcDEF123-456_xyz789",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "AIzaSyA-1234567890abcdefghijklmnopqrstu",
    "ya29.a0AfH6SMBx-abcdefgh",
    "xoxb-17653672481-19874698323",
    "xapp-1-A0123456-1234567890",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "rk_test_4eC39HqLyjWDarjtT1zdp7dc",
    "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789",
    "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789",
    "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    "pypi-AgEIcHlwaS5vcmcCJGFiY2RlZg",
    "SG.abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz0123456789abcdefg",
    "dop_v1_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "shpat_0123456789abcdef0123456789abcdef",
]
SENTENCES = [
    "",
    "Basic plan for everyone",
    "Basic subscription",
    "basic authentication",
    "Bearer tokens are required here",
    "Bearer authentication failed",
    "bearer of bad news, again and again",
    "the header was Bearer",
    "ASIA_PACIFIC_REGION_SOUTH",
    "ASIA and the Pacific, South",
    "npm_config_registry_of_ours",
    "hf_transformers_model_large",
    "pypi-mirror-of-the-company",
    "sk-learn-pipeline-v2",
    "SG.Marina.Bay.Sands.Hotel",
    "git commit of everything",
    "eyJ is how they begin, all of them",
    "----- BEGIN -----",
    "SELECT * FROM tokens WHERE token = ?",
    "short",
]


def encoder() -> Encoder:
    """An encoder with the rules of production."""
    return Encoder({"traces": {}, "logs": {}}, Redaction())


def own_attributes(body: bytes) -> dict[str, Any]:
    """The attributes of the first log record of a request."""
    return attributes(
        ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records[0].attributes
    )


def arrived(found: Mapping[str, object]) -> dict[str, Any]:
    """Attributes as they arrive after redaction; the same when they come again."""
    one = encoder()
    body, failed = one.logs([ALog(own=found)])
    assert failed == 0
    assert one.logs([ALog(own=found)]) == (body, 0)
    return own_attributes(body)


def a_span(found: Mapping[str, Any], **changes: Any) -> SdkSpan:
    """An ended span with these attributes on it, on an event and on a link."""
    return SdkSpan(
        ReadableSpan(
            "work",
            context=CONTEXT,
            attributes=found,
            events=[Event("event", found, 1)],
            links=[Link(CONTEXT, found)],
            start_time=1,
            end_time=2,
            **changes,
        )
    )


def a_collection(found: Mapping[str, Any]) -> MetricsData:
    """A metric with these labels, on its point and on an exemplar."""
    point = NumberDataPoint(found, 1, 2, 3, [Exemplar(found, 3, 2)])
    metric = Metric("used", "", "", Sum([point], AggregationTemporality.CUMULATIVE, True))
    scopes = [ScopeMetrics(InstrumentationScope("s"), [metric], "")]
    return MetricsData([ResourceMetrics(Resource.get_empty(), scopes, "")])


def everywhere(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What attributes arrive as, wherever attributes may stand."""
    one = encoder()
    traces, _ = one.spans([a_span(found, instrumentation_scope=InstrumentationScope("s", attributes=found))])
    (scoped,) = ExportTraceServiceRequest.FromString(traces).resource_spans[0].scope_spans
    (span,) = scoped.spans
    metrics, _ = one.metrics(a_collection(found), {})
    (metric,) = ExportMetricsServiceRequest.FromString(metrics).resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.sum.data_points
    return {
        "a span": attributes(span.attributes),
        "a scope": attributes(scoped.scope.attributes),
        "an event": attributes(span.events[0].attributes),
        "a link": attributes(span.links[0].attributes),
        "a log record": own_attributes(one.logs([ALog(own=found)])[0]),
        "shared": own_attributes(one.logs([ALog(shared=Shared(found))])[0]),
        "bound": own_attributes(one.logs([ALog(bound=Shared(found))])[0]),
        "a metric's point": attributes(point.attributes),
        "an exemplar": attributes(point.exemplars[0].filtered_attributes),
    }


# -- by key


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_text_under_a_secrets_name_is_redacted(key: str) -> None:
    """However the name is spelled."""
    assert arrived({key: "hunter2", "plan": "pro"}) == {key: REDACTED, "plan": "pro"}


@pytest.mark.parametrize("key", HARMLESS_KEYS)
def test_a_name_that_only_sounds_like_a_secrets_is_left(key: str) -> None:
    """Words of the conventions and of everyday business above all."""
    assert arrived({key: "value"}) == {key: "value"}


def test_no_attribute_of_the_conventions_is_taken_for_a_secret() -> None:
    """OpenTelemetry's stable ones, and those of our own table."""
    names = {name for row in TABLE for name in row.labels} | {
        value
        for module in pkgutil.walk_packages(semconv.__path__, f"{semconv.__name__}.")
        if "._" not in module.name
        for name, value in inspect.getmembers(pkgutil.resolve_name(module.name))
        if name.isupper() and isinstance(value, str)
    }
    assert {"http.route", "db.query.text", "code.function.name"} <= names
    assert [name for name in names if Redaction.is_secret_key(name)] == []


@pytest.mark.parametrize("value", [12345, -1, 0, 1 << 70, 1.5, True, False, None], ids=repr)
def test_a_number_under_a_secrets_name_stays(value: object) -> None:
    """Counts of tokens and lengths of passwords are what such numbers are."""
    expected = str(value) if value == 1 << 70 else value
    assert arrived({"token": value, "nested": {"token": value}}) == {"token": expected, "nested": {"token": expected}}


@pytest.mark.parametrize("value", ["", b"", (), {}], ids=repr)
def test_what_is_empty_stays_empty(value: object) -> None:
    """That a password was not given is worth knowing, and no secret."""
    assert arrived({"password": value}) == {"password": list(value) if value == () else value}


class Words:
    """A value whose text is made when it is encoded."""

    def __str__(self) -> str:
        return "hunter2"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"hunter2", REDACTED),
        (bytearray(b"hunter2"), REDACTED),
        (Words(), REDACTED),
        (["hunter2", "", 7, None, "x"], [REDACTED, "", 7, None, REDACTED]),
        (("hunter2", ["x"]), [REDACTED, [REDACTED]]),
        (frozenset({"hunter2"}), [REDACTED]),
        (
            {"user": "ann", "length": 7, "inner": {"old": "x"}},
            {"user": REDACTED, "length": 7, "inner": {"old": REDACTED}},
        ),
    ],
    ids=["bytes", "bytearray", "object", "list", "tuple", "set", "mapping"],
)
def test_whatever_stands_under_a_secrets_name_is_redacted_text_by_text(value: object, expected: object) -> None:
    """Its structure and numbers are left, so that a store still finds the type it knows."""
    assert arrived({"password": value}) == {"password": expected}
    assert arrived({"form": {"password": value}}) == {"form": {"password": expected}}


def test_nested_keys_are_looked_at_wherever_a_mapping_stands() -> None:
    """In a mapping of a list of a mapping, in a log record's body; the other keys stay."""
    value = {"users": [{"name": "ann", "password": "hunter2"}], "apiKey": "hunter2", "n": 1}
    expected = {"users": [{"name": "ann", "password": REDACTED}], "apiKey": REDACTED, "n": 1}
    assert arrived({"form": value}) == {"form": expected}
    body, _ = encoder().logs([ALog(body=value)])
    assert (
        plain(ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records[0].body) == expected
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"password": "hunter2", "plan": "pro"}, {"password": REDACTED, "plan": "pro"}),
        ({"note": "ghp_16C7e42F292c6912E7710c838347Ae178B4a"}, {"note": REDACTED}),
    ],
    ids=["by key", "by beginning"],
)
def test_secrets_are_redacted_wherever_attributes_stand(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """In spans, scopes, events, links, log records of all layers, metrics and exemplars."""
    for place, what in everywhere(found).items():
        assert what == expected, place


def test_the_resource_is_the_operators_own() -> None:
    """It is set by settings and detectors, and says which process speaks; nothing is taken away from it."""
    one = Encoder({"traces": {}, "logs": {"team.token": "blue"}}, Redaction())
    body, _ = one.logs([ALog("x")])
    (part,) = ExportLogsServiceRequest.FromString(body).resource_logs
    assert attributes(part.resource.attributes) == {"team.token": "blue"}


def test_without_rules_everything_arrives() -> None:
    """An encoder that is given none."""
    body, _ = Encoder({"traces": {}, "logs": {}}).logs([ALog(own={"password": "hunter2"})])
    assert own_attributes(body) == {"password": "hunter2"}


# -- by beginning


@pytest.mark.parametrize("text", CREDENTIALS, ids=lambda text: text[:12])
def test_a_text_that_begins_as_a_credential_is_redacted_whatever_its_key(text: str) -> None:
    """As a value, in a list, in a mapping, as a log record's body."""
    assert arrived({"note": text, "all": ["x", text], "map": {"k": text}}) == {
        "note": REDACTED,
        "all": ["x", REDACTED],
        "map": {"k": REDACTED},
    }
    body, _ = encoder().logs([ALog(body=text)])
    assert (
        plain(ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records[0].body) == REDACTED
    )


@pytest.mark.parametrize(("key", "begin"), [("password", ""), ("note", "ghp_")])
def test_a_secret_is_not_kept_in_memory(key: str, begin: str) -> None:
    """Other texts are, with their encoding, for when they come again; a secret would stand in every memory dump."""
    one = encoder()
    text = f"{begin}{7:040}"
    free = sys.getrefcount(text)
    one.logs([ALog(own={key: text})])
    assert sys.getrefcount(text) == free


@pytest.mark.parametrize("text", SENTENCES)
def test_a_sentence_that_begins_likewise_is_left(text: str) -> None:
    """So are names that share an issuer's beginning."""
    assert arrived({"note": text}) == {"note": text}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "Bearer " + "a." * 1_000_000,
        "Bearer " + "A" * 1_000_000,
        "Basic" + " " * 1_000_000,
        "SG." + "a" * 1_000_000,
        "eyJ" * 1_000_000,
    ],
    ids=lambda text: text[:8],
)
def test_a_long_text_is_judged_in_linear_time(text: str) -> None:
    """A request's body in a log record must not hold the worker up."""
    Redaction.is_secret_text(text)
    Redaction.is_secret_key(text)


# -- whatever the application says

CANARY = "c4n4ry"
SECRETS = st.text("abcXYZ 0159/.:", max_size=8).map(lambda text: CANARY + text)
SECRET_VALUES = st.recursive(
    st.one_of(SECRETS, SECRETS.map(str.encode), SECRETS.map(lambda text: bytearray(text.encode()))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["user", "n", "x"]), inner, max_size=3),
    ),
    max_leaves=5,
)
KEYS = st.one_of(
    st.sampled_from(SECRET_KEYS),
    st.builds("{}.{}".format, st.text("abc._-", max_size=8), st.sampled_from(SECRET_KEYS)),
)
FORMS = st.dictionaries(KEYS, SECRET_VALUES, min_size=1, max_size=4)


@settings(max_examples=examples(60))
@given(FORMS, st.sampled_from(["form", "n", "password"]))
def test_no_text_of_a_secrets_key_is_ever_in_the_bytes(form: dict[str, Any], outer: str) -> None:
    """Of any value, at any depth, in all three signals, at the first time and the next."""
    one = encoder()
    for _ in range(2):
        for found in (form, {outer: form}, {outer: [form, {"x": form}]}):
            for body, failed in (
                one.spans([a_span(found)]),
                one.logs([ALog(form, own=found, shared=Shared(found), bound=Shared(found))]),
                one.metrics(a_collection(found), {}),
            ):
                assert failed == 0
                assert body
                assert CANARY.encode() not in body


# -- in production


def test_secrets_arrive_redacted_at_the_next_hop(tmp_path: Path) -> None:
    """Of a span, a log record's extra and a metric's label, over the real way."""
    with started(tmp_path, instrument={"logging": "otelkit"}) as running:
        with otelkit.span("checkout", password="hunter2", plan="pro"):
            logging.getLogger("shop").warning("refused", extra={"api_key": "hunter2", "sku": "a"})
        otelkit.count("logins", 1, password="hunter2", plan="pro")
        sink = running.flush()
        span = running.spans()["checkout"]
        (log,) = running.logs()
    assert (span.attributes["password"], span.attributes["plan"]) == (REDACTED, "pro")
    assert (log.attributes["api_key"], log.attributes["sku"]) == (REDACTED, "a")
    (point,) = [metric for metric in sink.metrics if metric.name == "logins"][-1].points
    assert attributes(point.attributes) == {"password": REDACTED, "plan": "pro"}
