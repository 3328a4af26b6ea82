"""The standard variables that otelkit does not act on, and why; one that is set is named in a WARNING."""

from __future__ import annotations

from otelkit.config.setting import NotHonoured
from otelkit.config.settings import SIGNALS

NOT_HONOURED: tuple[NotHonoured, ...] = (
    NotHonoured(
        "OTEL_CONFIG_FILE",
        "Declarative configuration is not read; use variables, keyword arguments or `[tool.otelkit]`.",
    ),
    NotHonoured("OTEL_EXPERIMENTAL_CONFIG_FILE", "As OTEL_CONFIG_FILE."),
    NotHonoured(
        "OTEL_BSP_EXPORT_TIMEOUT",
        "One request's time is OTEL_EXPORTER_OTLP_TIMEOUT; a batch is kept and tried again, not given up after a time.",
    ),
    NotHonoured("OTEL_BLRP_EXPORT_TIMEOUT", "As OTEL_BSP_EXPORT_TIMEOUT."),
    NotHonoured("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "There is no Zipkin exporter; let the collector translate."),
    NotHonoured("OTEL_EXPORTER_ZIPKIN_TIMEOUT", "As OTEL_EXPORTER_ZIPKIN_ENDPOINT."),
    NotHonoured("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otelkit's own detectors run; they never reach the network."),
    NotHonoured("OTEL_ENTITIES", "Entities are not supported; use OTEL_RESOURCE_ATTRIBUTES."),
    NotHonoured(
        "OTEL_PYTHON_TRACER_PROVIDER",
        "otelkit's provider is used; set your own before bootstrap and otelkit attaches to it.",
    ),
    NotHonoured("OTEL_PYTHON_METER_PROVIDER", "As OTEL_PYTHON_TRACER_PROVIDER."),
    NotHonoured("OTEL_PYTHON_LOGGER_PROVIDER", "As OTEL_PYTHON_TRACER_PROVIDER."),
    NotHonoured(
        "OTEL_PYTHON_TRACER_CONFIGURATOR",
        "Experimental in the SDK; switch instrumentations off by OTELKIT_INSTRUMENT_<LIB>.",
    ),
    NotHonoured("OTEL_PYTHON_METER_CONFIGURATOR", "As OTEL_PYTHON_TRACER_CONFIGURATOR."),
    NotHonoured("OTEL_PYTHON_LOGGER_CONFIGURATOR", "As OTEL_PYTHON_TRACER_CONFIGURATOR."),
    NotHonoured(
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED",
        "The ledger's metric `otelkit.records` says more; the SDK's own stay off.",
    ),
    NotHonoured(
        "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED",
        "otelkit exports logging by itself; OTELKIT_INSTRUMENT_LOGGING=off switches it off.",
    ),
    *(
        NotHonoured(
            f"OTEL_PYTHON_EXPORTER_OTLP_{name}_CREDENTIAL_PROVIDER",
            "Credential providers are not called; use OTEL_EXPORTER_OTLP_HEADERS and the certificate variables.",
        )
        for name in ("HTTP", "GRPC", *(f"{way}_{signal.upper()}" for way in ("HTTP", "GRPC") for signal in SIGNALS))
    ),
    NotHonoured(
        "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES",
        "The codes that OTLP calls retryable are tried again, no others.",
    ),
    NotHonoured("OTEL_PYTHON_LOG_CORRELATION", "Trace and span id are on every log record."),
    NotHonoured(
        "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH",
        "Patch gevent in the application, first of all.",
    ),
)
"""Standard variables that do nothing here. OTEL_PYTHON_CONTEXT, OTEL_PYTHON_DISTRO and OTEL_PYTHON_CONFIGURATOR
belong to the API and to `opentelemetry-instrument`, and work as ever; OTEL_SEMCONV_STABILITY_OPT_IN concerns contrib
instrumentations.
"""
