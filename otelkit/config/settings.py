"""The table of settings: one record each; parsing, `otelkit env` and the reference are made from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal, cast

from otelkit.config.parse import (
    boolean,
    choice,
    choices,
    comma_list,
    header_name,
    headers,
    integer,
    networks,
    number,
    optional,
    pairs,
    rates,
    regular_expressions,
    text,
    url,
)
from otelkit.config.setting import Duration, Resolved, Setting, Source

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")

INSTRUMENT_PREFIX = "OTELKIT_INSTRUMENT_"
CHOICES = ("otelkit", "native", "contrib", "off")

_LEVELS = ("trace", "debug", "info", "warning", "warn", "error", "critical", "fatal", "notset")
_SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)


_NO_PATTERNS: tuple[re.Pattern[str], ...] = ()
_NO_NAMES: tuple[str, ...] = ()


class Settings:
    """Every setting's value after keyword arguments, environment, `[tool.otelkit]` and defaults, in this order.

    Immutable. Made by `otelkit.config.load.load`; compares equal to one with the same values, whatever their sources.
    """

    # A table: one row a line.
    # fmt: off
    # -- service
    service_name = Setting("OTEL_SERVICE_NAME", optional(text), None, "Name of the service; wins over `service.name` in OTEL_RESOURCE_ATTRIBUTES.")
    service_version = Setting("OTELKIT_SERVICE_VERSION", optional(text), None, "Version of the service; else the installed distribution of the service's name.")
    service_revision = Setting("OTELKIT_SERVICE_REVISION", optional(text), None, "`vcs.ref.head.revision`; else the platform's variable or the .git folder.")
    environment = Setting("OTELKIT_ENVIRONMENT", optional(text), None, "`deployment.environment.name`; else the platform's variable.")
    resource_attributes = Setting("OTEL_RESOURCE_ATTRIBUTES", pairs, cast("Mapping[str, str]", {}), "Resource attributes as `key=value,…`, values percent-encoded.")
    sdk_disabled = Setting("OTEL_SDK_DISABLED", boolean, False, "`true`: nothing is recorded or sent; propagators still work.")
    # -- which exporters
    traces_exporter = Setting("OTEL_TRACES_EXPORTER", choices("otlp", "console", "none"), cast("tuple[str, ...]", ("otlp",)), "Where spans go: a comma list of `otlp`, `console` (the tree), or `none`.")
    metrics_exporter = Setting("OTEL_METRICS_EXPORTER", choices("otlp", "console", "prometheus", "none"), cast("tuple[str, ...]", ("otlp",)), "Where metrics go: a comma list of `otlp`, `console`, `prometheus` (serves /metrics), or `none`.")
    logs_exporter = Setting("OTEL_LOGS_EXPORTER", choices("otlp", "console", "none"), cast("tuple[str, ...]", ("otlp",)), "Where log records go: a comma list of `otlp`, `console`, or `none`.")
    # -- OTLP, for all signals (a signal's own variable wins)
    otlp_endpoint = Setting("OTEL_EXPORTER_OTLP_ENDPOINT", optional(url), None, "Base URL of the next hop; over HTTP `/v1/<signal>` is added. Default http://localhost:4318, gRPC http://localhost:4317.")
    otlp_protocol = Setting("OTEL_EXPORTER_OTLP_PROTOCOL", choice("http/protobuf", "grpc"), "http/protobuf", "`http/protobuf` or `grpc` (needs otelkit[grpc]). `http/json` is not supported.")
    otlp_headers = Setting("OTEL_EXPORTER_OTLP_HEADERS", headers, cast("Mapping[str, str]", {}), "Headers sent with every export, `name=value,…`, values percent-encoded.", secret=True)
    otlp_headers_file = Setting("OTELKIT_EXPORTER_OTLP_HEADERS_FILE", optional(text), None, "File with more headers for every export, one `name=value` a line; it is read again when it changes.")
    otlp_compression = Setting("OTEL_EXPORTER_OTLP_COMPRESSION", choice("none", "gzip", "zstd"), "none", "`gzip`, `zstd` (needs otelkit[zstd] below Python 3.14; over HTTP alone; a next hop that does not take it gets gzip) or `none`.")
    otlp_timeout_s = Duration("OTEL_EXPORTER_OTLP_TIMEOUT", 10.0, "Longest time of one export request; 0: no limit.", zero_is_endless=True)
    otlp_certificate = Setting("OTEL_EXPORTER_OTLP_CERTIFICATE", optional(text), None, "File with the certificates (PEM) that the server's is checked against.")
    otlp_client_key = Setting("OTEL_EXPORTER_OTLP_CLIENT_KEY", optional(text), None, "File with the client's private key (PEM) for mutual TLS.")
    otlp_client_certificate = Setting("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", optional(text), None, "File with the client's certificate chain (PEM) for mutual TLS.")
    otlp_insecure = Setting("OTEL_EXPORTER_OTLP_INSECURE", boolean, False, "gRPC without TLS where the endpoint has no scheme; with a scheme, the scheme decides.")
    # -- traces
    traces_sampler = Setting("OTEL_TRACES_SAMPLER", choice(*_SAMPLERS), "parentbased_always_on", "Which traces are recorded: " + ", ".join(f"`{name}`" for name in _SAMPLERS) + ".")
    traces_sampler_arg = Setting("OTEL_TRACES_SAMPLER_ARG", number(minimum=0.0, maximum=1.0), 1.0, "The ratio of the two ratio samplers, 0 to 1.")
    sampling_routes = Setting("OTELKIT_SAMPLING_ROUTES", rates, cast("Mapping[str, float]", {}), "Rates of routes, `/health=0,/orders/{id}=0.1,/static/*=0.01`: which part of the requests that begin a trace there is recorded, in the sampler's place; the first that fits.")
    sampling_force_header = Setting("OTELKIT_SAMPLING_FORCE_HEADER", optional(header_name), None, "Request header that has a request recorded whatever the sampler says, with `1` as its value and from a trusted caller.")
    trusted_callers = Setting("OTELKIT_TRUSTED_CALLERS", networks, cast("tuple[str, ...]", ("private",)), "Whose traces are continued: a comma list of networks, `private` (addresses that are not on the internet, and this machine) or `*`, or `none`. A request that a proxy has forwarded for somebody else is somebody else's. The others' requests begin traces of their own with a link.")
    propagators = Setting("OTEL_PROPAGATORS", choices("tracecontext", "baggage", "b3", "b3multi", "jaeger", "none"), cast("tuple[str, ...]", ("tracecontext", "baggage")), "How context crosses processes: `tracecontext`, `baggage`, `b3`, `b3multi` (opentelemetry-propagator-b3), `jaeger` (opentelemetry-propagator-jaeger), `none`.")
    baggage_in = Setting("OTELKIT_BAGGAGE_IN", comma_list, _NO_NAMES, "The members of an incoming baggage that are taken, and bound to the request; unset: all are taken, and none is bound.")
    baggage_out = Setting("OTELKIT_BAGGAGE_OUT", comma_list, _NO_NAMES, "The members of the baggage, and the bound values, that are sent on as baggage; unset: the whole baggage, and nothing that is bound.")
    id_generator = Setting("OTEL_PYTHON_ID_GENERATOR", text, "random", "Entry point (group `opentelemetry_id_generator`) of the id generator.")
    # -- limits
    attribute_count_limit = Setting("OTEL_ATTRIBUTE_COUNT_LIMIT", integer(), 128, "Most attributes of a span, event, link or log record.")
    attribute_value_length_limit = Setting("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", optional(integer()), None, "Longest attribute value, in characters; longer ones are cut.")
    span_attribute_count_limit = Setting("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", optional(integer()), None, "The same for spans alone.")
    span_attribute_value_length_limit = Setting("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", optional(integer()), None, "The same for spans alone.")
    span_event_count_limit = Setting("OTEL_SPAN_EVENT_COUNT_LIMIT", integer(), 128, "Most events of a span.")
    span_link_count_limit = Setting("OTEL_SPAN_LINK_COUNT_LIMIT", integer(), 128, "Most links of a span.")
    event_attribute_count_limit = Setting("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", optional(integer()), None, "Most attributes of a span event.")
    link_attribute_count_limit = Setting("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", optional(integer()), None, "Most attributes of a link.")
    logrecord_attribute_count_limit = Setting("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", optional(integer()), None, "Most attributes of a log record.")
    logrecord_attribute_value_length_limit = Setting("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", optional(integer()), None, "Longest attribute value of a log record, in characters.")
    # -- queues and intervals
    bsp_schedule_delay_s = Duration("OTEL_BSP_SCHEDULE_DELAY", 5.0, "Longest time a finished span waits for its batch.")
    bsp_max_queue_size = Setting("OTEL_BSP_MAX_QUEUE_SIZE", integer(minimum=1), 2048, "Most spans that wait to be encoded; beyond it new ones are dropped and counted.")
    bsp_max_export_batch_size = Setting("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", integer(minimum=1), 512, "Most spans of one request.")
    blrp_schedule_delay_s = Duration("OTEL_BLRP_SCHEDULE_DELAY", 1.0, "Longest time a log record waits for its batch.")
    blrp_max_queue_size = Setting("OTEL_BLRP_MAX_QUEUE_SIZE", integer(minimum=1), 2048, "Most log records that wait to be encoded; beyond it new ones are dropped and counted.")
    blrp_max_export_batch_size = Setting("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", integer(minimum=1), 512, "Most log records of one request.")
    metric_export_interval_s = Duration("OTEL_METRIC_EXPORT_INTERVAL", 60.0, "Time between two collections of metrics.")
    metric_export_timeout_s = Duration("OTEL_METRIC_EXPORT_TIMEOUT", 30.0, "Longest time of one collection (asynchronous callbacks included).", zero_is_endless=True)
    metrics_temporality = Setting("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", choice("cumulative", "delta", "lowmemory"), "cumulative", "`cumulative` (what Prometheus takes), `delta` or `lowmemory`.")
    metrics_histogram = Setting("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", choice("explicit_bucket_histogram", "base2_exponential_bucket_histogram"), "explicit_bucket_histogram", "Aggregation of histograms without a view.")
    metrics_exemplar_filter = Setting("OTEL_METRICS_EXEMPLAR_FILTER", choice("always_on", "always_off", "trace_based"), "trace_based", "Which measurements may become exemplars.")
    prometheus_host = Setting("OTEL_EXPORTER_PROMETHEUS_HOST", text, "localhost", "Address that /metrics is served on.")
    prometheus_port = Setting("OTEL_EXPORTER_PROMETHEUS_PORT", integer(minimum=1, maximum=65535), 9464, "Port that /metrics is served on.")
    metrics_token = Setting("OTELKIT_METRICS_TOKEN", optional(text), None, "Token that a Prometheus server sends (`Authorization: Bearer …`) to get /metrics, at the port and from `otelkit.metrics_app`. Unset: only requests from this machine are answered, and none that a proxy has forwarded.", secret=True)
    # -- engine, delivery and life cycle
    engine = Setting("OTELKIT_ENGINE", choice("otelkit", "sdk"), "otelkit", "What makes the records: `otelkit`'s own engine, or the OpenTelemetry SDK's (`sdk`), at several times the cost.")
    max_value_bytes = Setting("OTELKIT_MAX_VALUE_BYTES", integer(minimum=256), 64 * 1024, "Longest text of an attribute, a log body or an event, in bytes; longer ones are cut and counted. Where OpenTelemetry's own limit of a value's length is set, that one holds.", unit="bytes")
    max_record_bytes = Setting("OTELKIT_MAX_RECORD_BYTES", integer(minimum=1024), 1024 * 1024, "Most bytes of one span or log record; what is above is cut and counted.", unit="bytes")
    max_queue_bytes = Setting("OTELKIT_MAX_QUEUE_BYTES", integer(minimum=65536), 32 * 1024 * 1024, "Most bytes of the spans, and of the log records, that wait to be encoded (a record with up to 16 attributes and no text above 1 KiB is not weighed); beyond it new ones are dropped and counted.", unit="bytes")
    max_pending_bytes = Setting("OTELKIT_MAX_PENDING_BYTES", integer(minimum=65536), 64 * 1024 * 1024, "Most bytes of encoded batches that wait for the next hop; beyond it the oldest are dropped and counted.", unit="bytes")
    spool = Setting("OTELKIT_SPOOL", choice("on", "off", "always"), "on", "Where encoded batches wait that the next hop does not take: `on`: on disk, also after the end of the process; `always`: every batch is written there before it is sent, 200 ms after its records at the latest; `off`: in memory alone.")
    spool_dir = Setting("OTELKIT_SPOOL_DIR", optional(text), None, "Folder of the spool; default `spool` in the folder of OTELKIT_STATE_DIR.")
    spool_max_bytes = Setting("OTELKIT_SPOOL_MAX_BYTES", integer(minimum=65536), 512 * 1024 * 1024, "Most bytes in the spool's folder, and never more than a tenth of what is free on its disk; beyond it the oldest batches are dropped and counted.", unit="bytes")
    spool_max_age_s = Setting("OTELKIT_SPOOL_MAX_AGE_S", number(minimum=1.0), 86_400.0, "Longest time that spans and logs wait in the spool.", unit="s")
    spool_max_metric_age_s = Setting("OTELKIT_SPOOL_MAX_METRIC_AGE_S", number(minimum=1.0), 1_500.0, "Longest time that metrics wait in the spool; Prometheus refuses points that are older than its out-of-order window (30 minutes in the bundled configuration).", unit="s")
    recorder = Setting("OTELKIT_RECORDER", choice("off", "on"), "off", "`on`: the flight recorder: spans in flight, and what has not reached the spool, are noted in a file that outlives the process; batches are written ahead as with OTELKIT_SPOOL=always.")
    shutdown_timeout_s = Setting("OTELKIT_SHUTDOWN_TIMEOUT_S", number(maximum=86_400.0), 2.0, "Longest time that the end of the process waits for the next hop, over all signals.", unit="s")
    state_dir = Setting("OTELKIT_STATE_DIR", optional(text), None, "Folder of the ledgers' mapped pages and of the metrics that processes share; default `$XDG_STATE_HOME/otelkit`, else `~/.local/state/otelkit`, else a folder of this user under the temporary directory.")
    strict = Setting("OTELKIT_STRICT", boolean, False, "`true`: wrong settings, unsupported libraries and someone else's providers raise at start, and nothing is started.")
    otel_log_level = Setting("OTEL_LOG_LEVEL", choice(*_LEVELS), "info", "Level of otelkit's own loggers (`otelkit.*`); they are never exported.")
    # -- instrumentation
    auto = Setting("OTELKIT_AUTO", boolean, False, "`true`, after `otelkit auto enable`: every Python process of this environment starts with telemetry.")
    disabled_instrumentations = Setting("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", comma_list, _NO_NAMES, "Names of instrumentations that stay off, or `*` for all.")
    excluded_urls = Setting("OTEL_PYTHON_EXCLUDED_URLS", regular_expressions, _NO_PATTERNS, "Regular expressions of URLs whose requests make no spans, nor does what they call.")
    fastapi_excluded_urls = Setting("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", regular_expressions, _NO_PATTERNS, "The same, for FastAPI and Starlette.")
    capture_request_headers = Setting("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", regular_expressions, _NO_PATTERNS, "Names (regular expressions) of request headers that become span attributes.")
    capture_response_headers = Setting("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE", regular_expressions, _NO_PATTERNS, "Names (regular expressions) of response headers that become span attributes.")
    sanitize_headers = Setting("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", regular_expressions, _NO_PATTERNS, "Captured headers whose values are replaced by `[REDACTED]`; authorization, cookies and the like always are.")
    exception_signal = Setting("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", choice("", "logs", "logs/dup"), "", "Exceptions: unset or `logs/dup`: a log record and a span event; `logs`: the log record alone.")
    unhandled_errors = Setting("OTELKIT_UNHANDLED_ERRORS", boolean, True, "Record the errors that end the program, a thread or a task, and those that Python ignores.")
    server_timing = Setting("OTELKIT_SERVER_TIMING", boolean, True, "Return `Server-Timing: traceparent` with each response whose request is recorded.")
    blocked_loop_s = Setting("OTELKIT_BLOCKED_LOOP_S", number(maximum=3600.0), 0.25, "An event loop that answers requests and is blocked for so long gets one log record with the stack; 0: none.", unit="s")
    celery_context = Setting("OTELKIT_CELERY_CONTEXT", choice("parent", "link"), "parent", "`parent`: a Celery task's run continues its publisher's trace; `link`: it begins a trace of its own, with a link to it. What beat sends is always linked.")
    celery_link_after_s = Setting("OTELKIT_CELERY_LINK_AFTER_S", number(minimum=0.0), 3600.0, "A Celery task that starts longer than this after its publishing is linked instead of continued; 0: never.", unit="s")
    celery_monitor = Setting("OTELKIT_CELERY_MONITOR", boolean, False, "`true`: a thread of Celery beat measures the broker, as `otelkit monitor celery` does.")
    celery_management_endpoint = Setting("OTELKIT_CELERY_MANAGEMENT_ENDPOINT", optional(url), None, "URL of RabbitMQ's management API, which knows the age of the oldest message; default: port 15672 of the broker's host.")
    redis_prefixes = Setting("OTELKIT_REDIS_PREFIXES", comma_list, _NO_NAMES, "Prefixes of Redis keys and channels that may be recorded, `session:,cart:`: cache hits and misses are told apart by them, and Pub/Sub messages named.")
    runtime_metrics = Setting("OTELKIT_RUNTIME_METRICS", boolean, True, "Record CPU, memory, threads, descriptors, garbage collection and event-loop lag.")
    # -- databases
    slow_query_s = Setting("OTELKIT_SLOW_QUERY_S", number(), 0.5, "A SQL statement that takes as long gets the application's line that issued it, and is one log record; 0: none is.", unit="s")
    n_plus_one_threshold = Setting("OTELKIT_N_PLUS_ONE_THRESHOLD", integer(), 10, "A SQL statement that runs so often right under one span marks that span as N+1; 0: none does.")
    sqlalchemy_transactions = Setting("OTELKIT_SQLALCHEMY_TRANSACTIONS", choice("off", "events", "spans"), "off", "BEGIN, COMMIT, ROLLBACK, savepoints and the steps of two phases: `events` of the current span, `spans` of their own, or `off` (savepoints are spans like every statement).")
    sqlcommenter = Setting("OTELKIT_SQLCOMMENTER", choice("off", "on", "always"), "off", "`on`: SQL statements carry a comment with the service's name and, unless the driver keeps prepared statements by their text (psycopg, asyncpg), the trace context; `always`: the trace context with every driver.")
    # -- logs
    log_level = Setting("OTELKIT_LOG_LEVEL", choice(*_LEVELS), "info", "Level from which loggers that inherit the root's level are exported; what the application prints does not change.")
    log_format = Setting("OTELKIT_LOG_FORMAT", choice("unchanged", "json"), "unchanged", "`json`: the root logger's stream handlers print one JSON object a line.")
    log_fields = Setting("OTELKIT_LOG_FIELDS", pairs, cast("Mapping[str, str]", {}), "New names of the JSON fields, `trace_id=traceId,…`.")
    log_request_started = Setting("OTELKIT_LOG_REQUEST_STARTED", boolean, False, "Log `request started` (DEBUG) for each HTTP request.")
    log_request_completed = Setting("OTELKIT_LOG_REQUEST_COMPLETED", boolean, False, "Log `request completed` for each HTTP request: INFO, from status 400 WARNING, from 500 ERROR.")
    # fmt: on

    def __init__(self, resolved: Mapping[str, Resolved], instrument: Mapping[str, str]) -> None:
        self._resolved = resolved
        self._instrument = instrument

    def __getitem__(self, env: str, /) -> object:
        return self._resolved[env].value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self._comparable() == other._comparable()

    def __hash__(self) -> int:
        return hash(repr(self._comparable()))

    def _comparable(self) -> tuple[Mapping[str, object], Mapping[str, str]]:
        return {env: found.value for env, found in self._resolved.items()}, self._instrument

    def source(self, env: str) -> Source:
        """Where the value of a variable came from."""
        return self._resolved[env].source

    def is_set(self, env: str) -> bool:
        """Whether any source names the variable."""
        return self._resolved[env].source != "default"

    def items(self) -> Iterator[tuple[Setting[object], Resolved]]:
        """Every setting of the table with its value, in the table's order."""
        for env, setting in TABLE.items():
            yield setting, self._resolved[env]

    def instrument(self, library: str) -> str | None:
        """What `OTELKIT_INSTRUMENT_<LIB>` says of a library, None where nobody chose."""
        if library in self._instrument:
            return self._instrument[library]
        disabled = self.disabled_instrumentations
        return "off" if library in disabled or "*" in disabled else None

    def chosen_instrumentations(self) -> Mapping[str, str]:
        """Every library that a setting names, with the choice."""
        return self._instrument

    def exporters(self, signal: Signal) -> tuple[str, ...]:
        """The exporters of a signal."""
        return cast("tuple[str, ...]", self[f"OTEL_{signal.upper()}_EXPORTER"])

    def otlp(self, signal: Signal, part: str) -> object:
        """A part of the OTLP settings (`ENDPOINT`, `HEADERS`, …) for a signal: its own variable, else the general
        one's.
        """
        own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{part}"
        return self[own] if self.is_set(own) else self[f"OTEL_EXPORTER_OTLP_{part}"]


def _table() -> dict[str, Setting[object]]:
    found = {value.env: value for value in vars(Settings).values() if isinstance(value, Setting)}
    for part in OTLP_PARTS:
        general = found[f"OTEL_EXPORTER_OTLP_{part}"]
        for signal in SIGNALS:
            env = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{part}"
            doc = f"As OTEL_EXPORTER_OTLP_{part}, for {signal} alone."
            if part == "ENDPOINT":
                doc = f"URL for {signal} alone, used as it is (no path is added)."
            key = general.key.replace("otlp_", f"otlp_{signal}_")
            found[env] = general.under(env, key, doc)
    return found


OTLP_PARTS = (
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "COMPRESSION",
    "TIMEOUT",
    "CERTIFICATE",
    "CLIENT_KEY",
    "CLIENT_CERTIFICATE",
    "INSECURE",
)

TABLE: Mapping[str, Setting[object]] = _table()
"""Every setting by its variable."""
