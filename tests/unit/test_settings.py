"""Settings: one table, four sources, and errors that say what to do."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import opentelemetry.environment_variables
import opentelemetry.sdk.environment_variables
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelkit.config import parse
from otelkit.config.load import Loaded, load
from otelkit.config.not_honoured import NOT_HONOURED
from otelkit.config.settings import OTLP_PARTS, SIGNALS, TABLE, Signal
from otelkit.errors import ConfigurationError, OtelkitError
from tests.support.process import run_python

# One text that each variable allows, and the value that it means.
EXAMPLES: dict[str, tuple[str, object]] = {
    "OTEL_SERVICE_NAME": ("shop", "shop"),
    "OTELKIT_SERVICE_VERSION": ("1.2.3", "1.2.3"),
    "OTELKIT_SERVICE_REVISION": ("abc123", "abc123"),
    "OTELKIT_ENVIRONMENT": ("staging", "staging"),
    "OTEL_RESOURCE_ATTRIBUTES": ("a=1,b=x%2Cy", {"a": "1", "b": "x,y"}),
    "OTEL_SDK_DISABLED": ("true", True),
    "OTEL_TRACES_EXPORTER": ("otlp,console", ("otlp", "console")),
    "OTEL_METRICS_EXPORTER": ("prometheus", ("prometheus",)),
    "OTEL_LOGS_EXPORTER": ("none", ("none",)),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("https://c:4318", "https://c:4318"),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("grpc", "grpc"),
    "OTEL_EXPORTER_OTLP_HEADERS": ("Authorization=Basic%20eA==", {"authorization": "Basic eA=="}),
    "OTEL_EXPORTER_OTLP_COMPRESSION": ("gzip", "gzip"),
    "OTEL_EXPORTER_OTLP_TIMEOUT": ("2500", 2.5),
    "OTEL_EXPORTER_OTLP_CERTIFICATE": ("/etc/ca.pem", "/etc/ca.pem"),
    "OTEL_EXPORTER_OTLP_CLIENT_KEY": ("/etc/c.key", "/etc/c.key"),
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": ("/etc/c.pem", "/etc/c.pem"),
    "OTEL_EXPORTER_OTLP_INSECURE": ("true", True),
    "OTEL_TRACES_SAMPLER": ("parentbased_traceidratio", "parentbased_traceidratio"),
    "OTEL_TRACES_SAMPLER_ARG": ("0.25", 0.25),
    "OTELKIT_SAMPLING_ROUTES": ("/health=0,/orders/{id}=0.1", {"/health": 0.0, "/orders/{id}": 0.1}),
    "OTELKIT_SAMPLING_FORCE_HEADER": ("X-Record", "x-record"),
    "OTELKIT_TRUSTED_CALLERS": ("private, 192.0.2.7/24", ("private", "192.0.2.0/24")),
    "OTEL_PROPAGATORS": ("b3,tracecontext,b3", ("b3", "tracecontext")),
    "OTEL_PYTHON_ID_GENERATOR": ("random", "random"),
    "OTEL_BSP_SCHEDULE_DELAY": ("100", 0.1),
    "OTEL_BLRP_SCHEDULE_DELAY": ("100", 0.1),
    "OTEL_METRIC_EXPORT_INTERVAL": ("1000", 1.0),
    "OTEL_METRIC_EXPORT_TIMEOUT": ("1000", 1.0),
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": ("DELTA", "delta"),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": (
        "base2_exponential_bucket_histogram",
        "base2_exponential_bucket_histogram",
    ),
    "OTEL_METRICS_EXEMPLAR_FILTER": ("always_on", "always_on"),
    "OTEL_EXPORTER_PROMETHEUS_HOST": ("0.0.0.0", "0.0.0.0"),
    "OTEL_EXPORTER_PROMETHEUS_PORT": ("9999", 9999),
    "OTELKIT_ENGINE": ("sdk", "sdk"),
    "OTELKIT_RECORDER": ("on", "on"),
    "OTELKIT_MAX_VALUE_BYTES": ("1000", 1000),
    "OTELKIT_MAX_RECORD_BYTES": ("100000", 100_000),
    "OTELKIT_MAX_QUEUE_BYTES": ("1000000", 1_000_000),
    "OTELKIT_EXPORTER_OTLP_HEADERS_FILE": ("/run/secrets/otlp", "/run/secrets/otlp"),
    "OTELKIT_MAX_PENDING_BYTES": ("65536", 65536),
    "OTELKIT_SPOOL": ("always", "always"),
    "OTELKIT_SPOOL_DIR": ("/var/spool/otelkit", "/var/spool/otelkit"),
    "OTELKIT_SPOOL_MAX_BYTES": ("1048576", 1048576),
    "OTELKIT_SPOOL_MAX_AGE_S": ("3600", 3600.0),
    "OTELKIT_SPOOL_MAX_METRIC_AGE_S": ("600", 600.0),
    "OTELKIT_SHUTDOWN_TIMEOUT_S": ("0.5", 0.5),
    "OTELKIT_STATE_DIR": ("/var/lib/x", "/var/lib/x"),
    "OTELKIT_STRICT": ("1", True),
    "OTEL_LOG_LEVEL": ("DEBUG", "debug"),
    "OTELKIT_AUTO": ("on", True),
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ("redis, httpx", ("redis", "httpx")),
    "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN": ("logs/dup", "logs/dup"),
    "OTELKIT_BAGGAGE_IN": ("tenant, plan", ("tenant", "plan")),
    "OTELKIT_BAGGAGE_OUT": ("tenant", ("tenant",)),
    "OTELKIT_UNHANDLED_ERRORS": ("off", False),
    "OTELKIT_REDIS_PREFIXES": ("cart:, session:", ("cart:", "session:")),
    "OTELKIT_SERVER_TIMING": ("no", False),
    "OTELKIT_BLOCKED_LOOP_S": ("0.1", 0.1),
    "OTELKIT_CELERY_CONTEXT": ("link", "link"),
    "OTELKIT_CELERY_LINK_AFTER_S": ("60", 60.0),
    "OTELKIT_CELERY_MONITOR": ("on", True),
    "OTELKIT_CELERY_MANAGEMENT_ENDPOINT": ("https://rabbit:15671", "https://rabbit:15671"),
    "OTELKIT_RUNTIME_METRICS": ("off", False),
    "OTELKIT_METRICS_TOKEN": ("s3cret", "s3cret"),
    "OTELKIT_SLOW_QUERY_S": ("0.2", 0.2),
    "OTELKIT_N_PLUS_ONE_THRESHOLD": ("5", 5),
    "OTELKIT_SQLALCHEMY_TRANSACTIONS": ("events", "events"),
    "OTELKIT_SQLCOMMENTER": ("always", "always"),
    "OTELKIT_LOG_LEVEL": ("warning", "warning"),
    "OTELKIT_LOG_FORMAT": ("json", "json"),
    "OTELKIT_LOG_FIELDS": ("trace_id=traceId", {"trace_id": "traceId"}),
    "OTELKIT_LOG_REQUEST_STARTED": ("true", True),
    "OTELKIT_LOG_REQUEST_COMPLETED": ("true", True),
}
NUMBERS = ("_LIMIT", "_QUEUE_SIZE", "_BATCH_SIZE")
PATTERNS = ("EXCLUDED_URLS", "CAPTURE_HEADERS_SERVER_REQUEST", "SERVER_RESPONSE", "SANITIZE_FIELDS")
WRONG = {
    "boolean": "perhaps",
    "number": "many",
    "url": "ftp://x",
    "choice": "nothing-like-it",
}


def loaded(environ: Mapping[str, str] | None = None, directory: Path | None = None, **arguments: object) -> Loaded:
    """Settings without this machine's environment and pyproject.toml."""
    return load(arguments, environ or {}, directory=directory or Path("/"))


def by_key(env: str, value: object) -> dict[str, Any]:
    """A setting as a keyword argument."""
    return {TABLE[env].key: value}


def general(env: str) -> str:
    """The general variable of a signal's own one."""
    for signal in SIGNALS:
        for part in OTLP_PARTS:
            if env == f"OTEL_EXPORTER_OTLP_{signal.upper()}_{part}":
                return f"OTEL_EXPORTER_OTLP_{part}"
    return env


def example(env: str) -> tuple[str, object]:
    """A text that a variable allows, and its value."""
    if env.endswith(NUMBERS):
        return "77", 77
    if env.endswith(PATTERNS):
        return "^/health, .*", None
    return EXAMPLES[general(env)]


@pytest.mark.parametrize("env", TABLE)
def test_every_variable_has_an_example_that_it_takes(env: str) -> None:
    """From the environment, with its source, and without a complaint."""
    text, value = example(env)
    found = loaded({env: text})
    assert found.problems == ()
    assert found.settings.source(env) == "environment"
    assert found.settings.is_set(env)
    if value is None:
        assert [pattern.pattern for pattern in found.settings[env]] == ["^/health", ".*"]  # type: ignore[attr-defined]
    else:
        assert found.settings[env] == value


@pytest.mark.parametrize("env", TABLE)
def test_sources_in_order_of_precedence(env: str, tmp_path: Path) -> None:
    """Keyword argument, environment, pyproject.toml, default."""
    setting = TABLE[env]
    text, _ = example(env)
    key_value = setting.parse_key(text)
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    (tmp_path / "pyproject.toml").write_text(f'[tool.otelkit]\n{setting.key} = "{quoted}"\n')
    assert loaded().settings[env] == setting.default
    assert loaded().settings.source(env) == "default"
    assert loaded(directory=tmp_path).settings[env] == key_value
    assert loaded(directory=tmp_path).settings.source(env) == "pyproject"
    assert loaded({env: text}, tmp_path).settings.source(env) == "environment"
    found = loaded({env: text}, tmp_path, **{setting.key: text}).settings
    assert (found.source(env), found[env]) == ("argument", key_value)


DURATIONS = [env for env, setting in TABLE.items() if setting.key.endswith("_s")]


@pytest.mark.parametrize("env", DURATIONS)
def test_what_is_named_in_seconds_takes_seconds(env: str, tmp_path: Path) -> None:
    """Keyword and key by their name's end; the variable in the specification's milliseconds, where it is no `_S`."""
    setting = TABLE[env]
    (tmp_path / "pyproject.toml").write_text(f"[tool.otelkit]\n{setting.key} = 1.5\n")
    for value in (1.5, "1.5"):
        assert loaded(**by_key(env, value)).settings[env] == 1.5
    assert loaded(directory=tmp_path).settings[env] == 1.5
    assert loaded({env: "1.5" if env.endswith("_S") else "1500"}).settings[env] == 1.5


def test_there_are_such_durations_of_both_kinds() -> None:
    """The test above is about something."""
    assert "OTEL_BSP_SCHEDULE_DELAY" in DURATIONS
    assert "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT" in DURATIONS
    assert "OTELKIT_SHUTDOWN_TIMEOUT_S" in DURATIONS
    assert {TABLE[env].unit for env in DURATIONS} == {"ms", "s"}
    assert {TABLE[env].key_unit for env in DURATIONS} == {"s"}


@pytest.mark.parametrize("env", [env for env in DURATIONS if env.endswith("_TIMEOUT")])
def test_a_time_out_of_nothing_is_no_limit_in_either_unit(env: str) -> None:
    """As the specification says; more than 24 days."""
    assert loaded({env: "0"}).settings[env] == loaded(**by_key(env, 0)).settings[env] == ((1 << 31) - 1) / 1000


def test_a_wrong_duration_is_told_in_its_sources_unit(tmp_path: Path) -> None:
    """Whoever writes `5s` learns what to count."""
    (problem,) = loaded({"OTEL_BSP_SCHEDULE_DELAY": "5s"}).problems
    assert "OTEL_BSP_SCHEDULE_DELAY='5s': allowed is a number of milliseconds from 0" in problem
    with pytest.raises(ConfigurationError, match="bsp_schedule_delay_s='5s': allowed is a number of seconds from 0"):
        loaded(bsp_schedule_delay_s="5s")
    (tmp_path / "pyproject.toml").write_text("[tool.otelkit]\nbsp_schedule_delay_s = -1\n")
    (problem,) = loaded(directory=tmp_path).problems
    assert "[tool.otelkit] bsp_schedule_delay_s='-1': allowed is a number of seconds" in problem


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_an_empty_variable_is_an_unset_one(blank: str) -> None:
    """Each alone, as the OpenTelemetry specification says."""
    for env in TABLE:
        found = loaded({env: blank})
        assert found.settings.source(env) == "default", env
        assert found.problems == (), env


def is_picky(env: str) -> bool:
    """Whether a variable refuses anything at all."""
    try:
        TABLE[env].parse("(\x00=,")
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("env", [env for env in TABLE if is_picky(env)])
def test_a_wrong_value_names_variable_value_and_what_is_allowed(env: str) -> None:
    """The default is used; a secret's value is not in the sentence; strict raises the same sentence."""
    bad = "(\x00=,s3cret"
    found = loaded({env: bad})
    assert found.settings[env] == TABLE[env].default
    (problem,) = found.problems
    assert problem.startswith(f"{env}=")
    assert ("allowed" in problem) or ("cannot" in problem) or ("must" in problem) or ("may hold" in problem)
    assert ("s3cret" in problem) is not TABLE[env].secret
    with pytest.raises(ConfigurationError) as error:
        loaded(
            {env: bad, "OTELKIT_STRICT": "true"}
            if env != "OTELKIT_STRICT"
            else {env: "true", "OTEL_BSP_MAX_QUEUE_SIZE": "x"}
        )
    assert "Nothing is started while OTELKIT_STRICT is on" in str(error.value)
    assert "using" not in str(error.value)
    assert isinstance(error.value, (OtelkitError, ValueError))
    with pytest.raises(ConfigurationError, match=TABLE[env].key):
        load({TABLE[env].key: bad}, {})


def test_a_wrong_value_falls_back_to_the_next_source(tmp_path: Path) -> None:
    """Environment wrong, pyproject right: pyproject's counts, and the mistake is told."""
    (tmp_path / "pyproject.toml").write_text("[tool.otelkit]\nbsp_max_queue_size = 99\n")
    found = loaded({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, tmp_path)
    assert found.settings.bsp_max_queue_size == 99
    assert "OTEL_BSP_MAX_QUEUE_SIZE='many'" in found.problems[0]
    assert "using the default" not in found.problems[0]


@pytest.mark.parametrize("env", [env for env in TABLE if env.endswith(PATTERNS)])
def test_a_comma_separates_patterns_even_within_brackets(env: str) -> None:
    """The piece that is no pattern is named with the reason; the default is used, strict raises."""
    (problem,) = loaded({env: "/health$,/a(b,c)"}).problems
    assert problem.startswith(f"{env}='/health$,/a(b,c)': '/a(b' is no regular expression (")
    assert "every comma separates, also one within brackets" in problem
    assert loaded({env: "/a(b,c)"}).settings[env] == ()
    with pytest.raises(ConfigurationError, match="is no regular expression"):
        loaded({env: "/a(b,c)"}, strict=True)
    with pytest.raises(ConfigurationError, match="is no regular expression"):
        loaded(**by_key(env, ["/a(b,c)"]))


@pytest.mark.parametrize("env", [env for env in TABLE if env.endswith(PATTERNS)])
def test_a_quantifier_that_a_comma_cuts_is_told(env: str) -> None:
    """Both pieces are patterns, and hardly what was meant: they count, as everywhere, and a hint says so."""
    found = loaded({env: "/a{1,2}$"})
    assert [pattern.pattern for pattern in found.settings[env]] == ["/a{1", "2}$"]  # type: ignore[attr-defined]
    assert found.problems == ()
    (hint,) = found.hints
    assert hint.startswith(f"{env}='/a{{1,2}}$': every comma separates")
    assert "'{1,2}'" in hint
    assert loaded({env: "/a{2},/b"}).hints == ()
    (hint,) = loaded(strict=True, **by_key(env, ["/a{1,}"])).hints
    assert hint.startswith(f"{TABLE[env].key}=")


TIMEOUTS = [f"OTEL_EXPORTER_OTLP_{signal}TIMEOUT" for signal in ("", "TRACES_", "METRICS_", "LOGS_")]


@pytest.mark.parametrize("env", TIMEOUTS)
def test_a_time_out_of_a_few_milliseconds_is_told_once(env: str) -> None:
    """`10` was meant for OpenTelemetry Python, which reads seconds; it counts, strict or not."""
    found = loaded({env: "10", "OTELKIT_STRICT": "1"})
    assert found.settings[env] == 0.01
    (hint,) = found.hints
    assert hint.startswith(f"{env}='10' is 10 milliseconds")
    assert f"10 seconds are {env}=10000" in hint


@pytest.mark.parametrize(
    "settings", [{"OTEL_EXPORTER_OTLP_TIMEOUT": "100"}, {"OTEL_EXPORTER_OTLP_TIMEOUT": "0"}, {"otlp_timeout_s": 0.01}]
)
def test_other_time_outs_are_not_worth_a_word(settings: dict[str, Any]) -> None:
    """From 100 ms on, none at all, and a keyword whose name has the unit."""
    environ = {key: value for key, value in settings.items() if key.isupper()}
    arguments = {key: value for key, value in settings.items() if not key.isupper()}
    assert loaded(environ, **arguments).hints == ()


@pytest.mark.parametrize(
    "env", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"]
)
def test_headers_are_secrets(env: str) -> None:
    """Wherever settings are printed."""
    assert TABLE[env].secret
    assert TABLE[env].masked("authorization=Bearer%20x") == "***"
    assert TABLE[env].masked("") == ""


@pytest.mark.parametrize("url", ["http://me:s3cret@host:bad", "me:s3cret@host:-1", "ftp://me:s3cret@host/p?key=s3cret"])
@pytest.mark.parametrize("env", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"])
def test_credentials_in_an_address_are_not_printed(env: str, url: str) -> None:
    """Neither by the complaint about a wrong one nor by whatever prints a right one."""
    (problem,) = loaded({env: url}).problems
    assert "s3cret" not in problem
    assert "host" in problem
    assert "s3cret" not in TABLE[env].masked("https://me:s3cret@host/p?api_key=s3cret")
    assert TABLE[env].masked("http://localhost:4318/x") == "http://localhost:4318/x"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("service_nam", "did you mean 'service_name'?"),
        ("otlp_endpont", "did you mean 'otlp_endpoint'?"),
        ("xyzzy", "`otelkit env` lists them all"),
    ],
)
def test_an_unknown_keyword_argument_is_an_error_with_a_hint(given: str, hint: str, tmp_path: Path) -> None:
    """In code it is always raised; in pyproject.toml it is a problem."""
    with pytest.raises(ConfigurationError, match="keyword argument of bootstrap") as error:
        load({given: "x"}, {})
    assert hint in str(error.value)
    (tmp_path / "pyproject.toml").write_text(f'[tool.otelkit]\n{given} = "x"\n')
    (problem,) = loaded(directory=tmp_path).problems
    assert hint in problem
    assert str(tmp_path / "pyproject.toml") in problem


def test_none_is_not_given() -> None:
    """`bootstrap(environment=os.environ.get("ENV"))`."""
    assert loaded({"OTELKIT_ENVIRONMENT": "e"}, environment=None).settings.environment == "e"


def test_arguments_may_be_python_values() -> None:
    """Booleans, numbers, lists and mappings, also with characters that separate in the text form."""
    settings = loaded(
        strict=False,
        bsp_max_queue_size=5,
        shutdown_timeout_s=0.25,
        traces_exporter=["otlp", "console"],
        otlp_headers={"authorization": "Basic a=b,c%20d"},
        resource_attributes={"team": "a,b=c%", "n": 1},
        excluded_urls=("^/health", "x"),
        propagators=(),
    ).settings
    assert settings.bsp_max_queue_size == 5
    assert settings.shutdown_timeout_s == 0.25
    assert settings.traces_exporter == ("otlp", "console")
    assert settings.otlp_headers == {"authorization": "Basic a=b,c%20d"}
    assert settings.resource_attributes == {"team": "a,b=c%", "n": "1"}
    assert [pattern.pattern for pattern in settings.excluded_urls] == ["^/health", "x"]
    assert settings.propagators == ()


@pytest.mark.parametrize("row", NOT_HONOURED, ids=lambda row: row.env)
def test_a_variable_that_does_nothing_says_so(row: Any) -> None:
    """Set it and there is one sentence; leave it empty and there is none; strict raises."""
    (problem,) = loaded({row.env: "x"}).problems
    assert problem == f"{row.env} is set and does nothing: {row.doc}"
    assert loaded({row.env: ""}).problems == ()
    with pytest.raises(ConfigurationError, match=row.env):
        loaded({row.env: "x", "OTELKIT_STRICT": "true"})


ELSEWHERE = {
    "OTEL_PYTHON_CONTEXT": "read by opentelemetry-api itself",
}


def test_no_variable_of_opentelemetry_is_left_silent() -> None:
    """Each is honoured, or said not to be, or belongs to somebody else by name."""
    modules = (opentelemetry.sdk.environment_variables, opentelemetry.environment_variables)
    known = {
        value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, str) and value.startswith("OTEL_") and "OTEL" in name
    }
    assert len(known) > 70
    accounted = {*TABLE, *(row.env for row in NOT_HONOURED), *ELSEWHERE}
    assert sorted(known - accounted) == []
    assert sorted(set(TABLE) & {row.env for row in NOT_HONOURED}) == []


def test_keys_are_unique_and_every_setting_is_documented() -> None:
    """One record a setting."""
    keys = [setting.key for setting in TABLE.values()]
    assert len(set(keys)) == len(keys)
    for setting in TABLE.values():
        assert setting.doc.endswith("."), setting.env
        assert setting.env.startswith(("OTEL_", "OTELKIT_"))


@pytest.mark.parametrize("part", OTLP_PARTS)
@pytest.mark.parametrize("signal", SIGNALS)
def test_a_signals_own_variable_wins_over_the_general_one(part: str, signal: Signal) -> None:
    """For this signal alone; where it is wrong the general one counts."""
    everywhere, own = f"OTEL_EXPORTER_OTLP_{part}", f"OTEL_EXPORTER_OTLP_{signal.upper()}_{part}"
    text, value = EXAMPLES[everywhere]
    assert loaded({everywhere: text}).settings.otlp(signal, part) == value
    both = loaded({own: text}).settings
    assert both.otlp(signal, part) == value
    for other in set(SIGNALS) - {signal}:
        assert both.otlp(other, part) == TABLE[everywhere].default
    if is_picky(own):
        assert loaded({everywhere: text, own: "(\x00=,"}).settings.otlp(signal, part) == value


@pytest.mark.parametrize("choice", ["otelkit", "native", "contrib", "off"])
def test_the_choice_for_a_library_comes_from_all_sources(choice: str, tmp_path: Path) -> None:
    """Dashes and upper case are forgiven."""
    assert loaded({"OTELKIT_INSTRUMENT_AIOHTTP_CLIENT": choice.upper()}).settings.instrument("aiohttp_client") == choice
    assert loaded(instrument={"aiohttp-client": choice}).settings.instrument("aiohttp_client") == choice
    (tmp_path / "pyproject.toml").write_text(f'[tool.otelkit.instrument]\nredis = "{choice}"\n')
    assert loaded(directory=tmp_path).settings.instrument("redis") == choice
    assert loaded({"OTELKIT_INSTRUMENT_REDIS": "off"}, tmp_path).settings.instrument("redis") == "off"
    assert (
        loaded({"OTELKIT_INSTRUMENT_REDIS": "off"}, instrument={"redis": choice}).settings.instrument("redis") == choice
    )


def test_a_wrong_choice_for_a_library_names_it() -> None:
    """With what is allowed."""
    found = loaded({"OTELKIT_INSTRUMENT_REDIS": "maybe"})
    assert "redis" in found.problems[0]
    assert "otelkit, native, contrib, off" in found.problems[0]
    assert found.settings.instrument("redis") is None
    with pytest.raises(ConfigurationError, match="redis"):
        loaded(instrument={"redis": "maybe"})
    with pytest.raises(ConfigurationError, match="instrument"):
        loaded(instrument="redis")


def test_disabled_instrumentations_are_off_unless_chosen() -> None:
    """`*` means all."""
    settings = loaded({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*", "OTELKIT_INSTRUMENT_REDIS": "otelkit"}).settings
    assert settings.instrument("celery") == "off"
    assert settings.instrument("redis") == "otelkit"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[tool.otelkit\n", "cannot be read"),
        ("tool.otelkit = 3\n", "is no table"),
        ("tool = 'otelkit'\n", None),
        ("[tool.otelkit]\ninstrument = 3\n", "allowed is a table"),
        ("\ufeff[tool.otelkit]\nservice_name = 'x'\n", None),
        ("[project]\nname = 'otelkit'\n", None),
    ],
)
def test_a_broken_pyproject_never_stops_the_application(tmp_path: Path, content: str, problem: str | None) -> None:
    """It is a problem at most."""
    (tmp_path / "pyproject.toml").write_text(content, encoding="utf-8")
    found = loaded(directory=tmp_path)
    if problem is not None:
        assert any(problem in text for text in found.problems)


def test_bytes_that_are_no_text_in_pyproject_are_a_problem(tmp_path: Path) -> None:
    """Latin-1 where UTF-8 is asked for."""
    (tmp_path / "pyproject.toml").write_bytes(b"[tool.otelkit]\nservice_name = '\xfc'\n")
    assert "cannot be read" in loaded(directory=tmp_path).problems[0]


@pytest.mark.parametrize(
    "content",
    [
        "[tool.otelkit]\nservice_name = 'x'\n",
        "[tool]\notelkit = {service_name = 'x'}\n",
        "[tool]\notelkit.service_name = 'x'\n",
        "[tool]\n  \"otelkit\" = {service_name = 'x'}\n",
        "[tool]\r\n'otelkit' = {service_name = 'x'}\r\n",
        "[tool.\"otelkit\"]\nservice_name = 'x'\n",
        "[ tool . 'otelkit' ]\nservice_name = 'x'\n",
        "tool.otelkit.service_name = 'x'\n",
        "tool = {otelkit = {service_name = 'x'}}\n",
        "tool = {ruff = {}, \"otelkit\" = {service_name = 'x'}}\n",
    ],
)
def test_every_way_to_write_the_table_is_seen(tmp_path: Path, content: str) -> None:
    """TOML has many."""
    (tmp_path / "pyproject.toml").write_text(content)
    assert loaded(directory=tmp_path).settings.service_name == "x"


@pytest.mark.parametrize(
    "content",
    [
        "[project]\nname = 'shop'\n",
        "[project]\ndependencies = [\n  'fastapi',\n  'otelkit',\n  'otelkit[fastapi]>=0.1',\n]\n",
        "[project]\nname = 'otelkit'\n[project.optional-dependencies]\ntelemetry = ['otelkit[all]']\n",
    ],
)
def test_a_project_without_the_table_does_not_pay_for_a_parser(tmp_path: Path, content: str) -> None:
    """Also one that requires otelkit: tomllib is not imported."""
    (tmp_path / "pyproject.toml").write_text(content)
    source = "import sys, otelkit\notelkit.bootstrap()\nprint({'tomllib', 'tomli'} & set(sys.modules))"
    assert run_python(source, cwd=tmp_path, environ={"OTELKIT_SHUTDOWN_TIMEOUT_S": "0"}).out == "set()\n"


def test_pyproject_is_searched_upwards(tmp_path: Path) -> None:
    """The nearest one counts."""
    (tmp_path / "pyproject.toml").write_text("[tool.otelkit]\nservice_name = 'outer'\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert loaded(directory=inner).settings.service_name == "outer"
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\n")
    assert loaded(directory=inner).settings.service_name is None


def test_settings_are_equal_by_value_whatever_their_source() -> None:
    """What decides whether a second bootstrap is the same one."""
    assert loaded({"OTEL_SERVICE_NAME": "x"}).settings == loaded(service_name="x").settings
    assert hash(loaded({"OTEL_SERVICE_NAME": "x"}).settings) == hash(loaded(service_name="x").settings)
    assert loaded(service_name="x").settings != loaded(service_name="y").settings
    assert loaded(instrument={"redis": "off"}).settings != loaded().settings
    assert loaded(excluded_urls="a").settings == loaded(excluded_urls=["a"]).settings


# -- the parsers

PARSERS: dict[str, Callable[[str], object]] = {
    "text": parse.text,
    "boolean": parse.boolean,
    "integer": parse.integer(minimum=0, maximum=100),
    "unbounded": parse.integer(minimum=1),
    "number": parse.number(maximum=1.0),
    "milliseconds": parse.milliseconds,
    "seconds": parse.seconds,
    "timeout": parse.timeout(parse.milliseconds),
    "choice": parse.choice("a", "b"),
    "choices": parse.choices("a", "none"),
    "comma_list": parse.comma_list,
    "pairs": parse.pairs,
    "headers": parse.headers,
    "regular_expressions": parse.regular_expressions,
    "url": parse.url,
}
ANY_TEXT = st.one_of(
    st.text(st.characters(codec=None)),
    st.text("0123456789.eE+-_ infa\u0661"),
    st.text("=,;%&\x00\r\n ab\"'\\"),
    st.text("[](){}*+?|\\.a,^$<>=!:P"),
    st.text("htps:/@[]?#%. 0123456789\u2100"),
    st.integers(1000, 6000).map(lambda digits: "9" * digits),
)


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@pytest.mark.parametrize("name", PARSERS)
@given(text=ANY_TEXT)
def test_a_parser_returns_or_raises_valueerror(name: str, text: str) -> None:
    """Nothing else, whatever a variable holds."""
    with contextlib.suppress(ValueError):
        PARSERS[name](text)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"))))
def test_a_mapping_as_an_argument_comes_through_its_text_form(mapping: dict[str, str]) -> None:
    """Keys and values are the caller's, but for white space at their ends."""
    expected = {key.strip(): value.strip() for key, value in mapping.items() if key.strip()}
    if len(expected) == len(mapping):
        assert parse.pairs(parse.to_text(mapping)) == expected


@given(st.floats(0, 1e300))
def test_durations_stay_within_what_a_lock_can_wait(milliseconds: float) -> None:
    """Never longer than sockets and threads take."""
    import threading

    seconds = parse.milliseconds(repr(milliseconds))
    assert 0 <= seconds <= threading.TIMEOUT_MAX
    assert seconds * 1000 <= (1 << 31) - 1
    assert seconds <= parse.seconds(repr(milliseconds)) <= (1 << 31) / 1000
    assert parse.timeout(parse.milliseconds)(repr(milliseconds)) > 0


@pytest.mark.parametrize("text", ["1e400", "nan", "inf", "-1", "", "1,5", "0x10"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """Also what Python would call a float."""
    with pytest.raises(ValueError, match="a number from 0"):
        parse.number()(text)
    assert not math.isnan(parse.number()("0"))


@pytest.mark.parametrize("text", ["a\r\nx: y", "a\x00b", "a\x7f"])
def test_a_header_value_cannot_inject_another_header(text: str) -> None:
    """Percent-encoded or not."""
    from urllib.parse import quote

    for form in (text, quote(text)):
        with pytest.raises(ValueError, match="control characters"):
            parse.headers(f"x={form}")


@pytest.mark.parametrize("text", ["x y=1", "=1", "x", "x:=1", "ü=1"])
def test_a_header_name_is_a_token(text: str) -> None:
    """RFC 9110."""
    with pytest.raises(ValueError, match=r"name|pairs"):
        parse.headers(text)


@pytest.mark.parametrize(
    "text", ["", "http://", "ftp://h", "http://h:0", "http://h:99999", "http://h:x", "http://[::1", "http://a b", "//"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(ValueError, match="http://localhost:4318"):
        parse.url(text)
