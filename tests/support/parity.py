"""One program over OpenTelemetry's API, run over otelkit's own engine and over the SDK's, and what came of it."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanContext, get_current_span

from otelkit.config.load import load
from otelkit.config.settings import Settings
from otelkit.delivery.encode import Encoder
from otelkit.delivery.report import FlushReport
from otelkit.engine.logs import LoggerProvider
from otelkit.engine.opening import Extras, open_engine
from otelkit.engine.tracing import TracerProvider
from otelkit.signals import correlation

EngineName = Literal["otelkit", "sdk"]
ENGINES: tuple[EngineName, EngineName] = ("otelkit", "sdk")

RESOURCE = {"service.name": "parity", "service.instance.id": "one"}
_FIRST_SPAN_ID, _FIRST_TRACE_ID = 0xABCD << 48, 0xFEDC << 112
# Whatever a clock said is later than this; programs say earlier times.
_CLOCK = 1_000_000_000_000_000_000
_ISO_TIME = re.compile(r"20\d\d-\d\d-\d\dT[\d:.]+Z")
_TRACE_FLAGS = 0xFF


class CountedIds(IdGenerator):
    """Ids in the order of asking, told apart at a glance; trace ids differ in their lower half, which samplers read."""

    def __init__(self, *, random_flag: bool = False) -> None:
        self._spans = self._traces = 0
        self._random_flag = random_flag

    def generate_span_id(self) -> int:
        self._spans += 1
        return _FIRST_SPAN_ID + self._spans

    def generate_trace_id(self) -> int:
        self._traces += 1
        return _FIRST_TRACE_ID + self._traces * 0x9E3779B97F4A7C15 % (1 << 64)

    def is_trace_id_random(self) -> bool:
        return self._random_flag


_COUNTED = CountedIds()


class _Kept(list[Any]):
    put = list.append


class Intake:
    """Stands where the pipeline stands: keeps what it is given, and makes the bytes of it that the worker makes."""

    recorder = None

    def __init__(self) -> None:
        self.spans, self.logs = _Kept(), _Kept()
        self._encoder = Encoder(dict.fromkeys(("traces", "logs"), RESOURCE))

    def start(self) -> None:
        """Has no threads."""

    def flush(self, timeout_s: float) -> FlushReport:
        """Has nothing to wait for."""
        return FlushReport(ok=True)

    def traces_request(self) -> ExportTraceServiceRequest:
        """The request of the spans; fails where one could not be encoded."""
        request, failed = self._encoder.spans(self.spans)
        assert not failed, f"{failed} spans cannot be encoded"
        decoded: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(request)
        return decoded

    def logs_request(self) -> ExportLogsServiceRequest:
        """The request of the log records; fails where one could not be encoded."""
        request, failed = self._encoder.logs(self.logs)
        assert not failed, f"{failed} log records cannot be encoded"
        decoded: ExportLogsServiceRequest = ExportLogsServiceRequest.FromString(request)
        return decoded


@functools.lru_cache(1024)
def _settings(environ: tuple[tuple[str, str], ...]) -> Settings:
    loaded = load(environ=dict(environ), directory=Path("/"))
    assert not loaded.problems, loaded.problems
    return loaded.settings


class Engine:
    """An opening with this engine and these settings, in front of an `Intake`; `ids` None for those of the settings."""

    def __init__(
        self,
        name: EngineName,
        environ: Mapping[str, str] | None = None,
        *,
        extras: Extras | None = None,
        ids: IdGenerator | None = _COUNTED,
        pipeline: Any = None,
    ) -> None:
        self.name = name
        self.settings = _settings(
            tuple(sorted({"OTEL_METRICS_EXPORTER": "none", "OTELKIT_ENGINE": name, **(environ or {})}.items()))
        )
        self.intake = Intake()
        front: Any = pipeline or self.intake
        opening = open_engine(self.settings, RESOURCE, front, extras)
        self.tracer_provider = TracerProvider()
        self.tracer_provider.open(opening.tracing)
        if ids is not None:
            self.tracer_provider.id_generator = CountedIds() if ids is _COUNTED else ids
        self.logger_provider = LoggerProvider()
        self.logger_provider.open(opening.logging)

    def references(self) -> References:
        """Collects what the SDK itself made, from now on; only the SDK's engine makes anything in the SDK."""
        assert self.name == "sdk"
        found = References()
        self.tracer_provider.add_span_processor(found.spans)
        self.logger_provider.add_log_record_processor(found.logs)
        return found


class Ended(SpanProcessor):
    """Keeps the sampled spans that ended."""

    def __init__(self) -> None:
        self.kept: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        if span.context.trace_flags.sampled:
            self.kept.append(span)


class Emitted(LogRecordProcessor):
    """Keeps the log records."""

    def __init__(self) -> None:
        self.kept: list[ReadWriteLogRecord] = []

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.kept.append(log_record)

    def shutdown(self) -> None:
        """Holds nothing."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


@dataclass
class References:
    """What the SDK's own encoder makes of what the SDK recorded: the reference that otelkit has no part in."""

    spans: Ended = field(default_factory=Ended)
    logs: Emitted = field(default_factory=Emitted)

    def traces_request(self) -> ExportTraceServiceRequest:
        return encode_spans(self.spans.kept)

    def logs_request(self) -> ExportLogsServiceRequest:
        return encode_logs(self.logs.kept)  # type: ignore[arg-type]  # it reads what both records have


def quiet() -> Iterator[None]:
    """For a fixture: nothing is bound, and OpenTelemetry and otelkit do not log each attribute that is no good."""
    token, _ = correlation.open_holder({})
    loggers = [logging.getLogger(name) for name in ("opentelemetry", "otelkit")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    correlation.close_holder(token)


# -- comparing


def traces(
    request: ExportTraceServiceRequest, ids: Mapping[int, int], *, as_reference: bool = False
) -> Sequence[tuple[str, bytes]]:
    """The request's spans and scopes, each as text for people and bytes for comparison (NaN equals NaN).

    Span ids become the numbers in `ids`, times of a clock become one. As the SDK's encoder leaves out the W3C flags
    of a span and a link and the trace state of a link, `as_reference` leaves them out here.
    """

    def known(span_id: bytes) -> bytes:
        number = ids.get(int.from_bytes(span_id, "big"))
        return span_id if number is None else b"span %d" % number

    found = []
    for part in request.resource_spans:
        found.append(_comparable(part.resource))
        for scoped in part.scope_spans:
            found.append(_comparable(scoped.scope, scoped.schema_url))
            for span in scoped.spans:
                span.span_id, span.parent_span_id = known(span.span_id), known(span.parent_span_id)
                span.start_time_unix_nano = _said(span.start_time_unix_nano)
                span.end_time_unix_nano = _said(span.end_time_unix_nano)
                for event in span.events:
                    event.time_unix_nano = _said(event.time_unix_nano)
                for link in span.links:
                    link.span_id = known(link.span_id)
                    if as_reference:
                        link.flags &= ~_TRACE_FLAGS
                        link.trace_state = ""
                if as_reference:
                    span.flags &= ~_TRACE_FLAGS
                if not (span.status.code or span.status.message):
                    span.ClearField("status")  # an empty status and none are the same
                found.append(_comparable(span))
    return found


def logs(request: ExportLogsServiceRequest) -> Mapping[tuple[str, bytes], Sequence[tuple[str, bytes]]]:
    """The request's log records by scope, as `traces` shows spans; in any order, as records that took the short way
    and such that took the SDK's come in two groups of one scope.

    A body of None and none are the same, and so are the flags of a record that is in no trace.
    """
    found: dict[tuple[str, bytes], list[tuple[str, bytes]]] = {}
    for part in request.resource_logs:
        found[_comparable(part.resource)] = []
        for scoped in part.scope_logs:
            records = found.setdefault(_comparable(scoped.scope, scoped.schema_url), [])
            for record in scoped.log_records:
                record.time_unix_nano = _said(record.time_unix_nano)
                record.observed_time_unix_nano = _said(record.observed_time_unix_nano)
                if record.body.WhichOneof("value") is None:
                    record.ClearField("body")
                if not record.trace_id:
                    record.flags = 0
                records.append(_comparable(record))
    return {scope: sorted(records) for scope, records in found.items()}


def _comparable(message: Any, *more: str) -> tuple[str, bytes]:
    return (f"{message}{more}", message.SerializeToString(deterministic=True))


def _said(time_ns: int) -> int:
    return time_ns if time_ns < _CLOCK else _CLOCK


def numbered(contexts: Iterable[SpanContext]) -> dict[int, int]:
    """Span ids by the order in which the program started the spans: an id that nobody needs is made late or never."""
    return {context.span_id: number for number, context in enumerate(contexts)}


def renumbered(texts: Iterable[str], ids: Mapping[int, int]) -> list[str]:
    """The texts with the numbers in `ids` for span ids, and with one time for all that a clock said."""
    pattern = re.compile("|".join(f"{span_id:016x}" for span_id in ids) or "(?!)")
    return [_ISO_TIME.sub("clock", pattern.sub(lambda found: f"span {ids[int(found[0], 16)]}", text)) for text in texts]


# -- what a processor sees


def dump(span: Any) -> dict[str, str]:
    """Everything that a ReadableSpan says, as texts that tell types apart."""
    return {
        "name": repr(span.name),
        "context": repr(span.context),
        "get_span_context": repr(span.get_span_context()),
        "parent": repr(span.parent),
        "kind": repr(span.kind),
        "start_time": _moment(span.start_time),
        "end_time": _moment(span.end_time),
        "status": repr((span.status.status_code, span.status.description, span.status.is_ok, span.status.is_unset)),
        "attributes": repr(list(span.attributes.items())),
        "dropped": repr((span.dropped_attributes, span.dropped_events, span.dropped_links)),
        "events": repr([
            (event.name, _moment(event.timestamp), list((event.attributes or {}).items()), event.dropped_attributes)
            for event in span.events
        ]),
        "links": repr([
            (link.context, link.context.is_remote, list((link.attributes or {}).items()), link.dropped_attributes)
            for link in span.links
        ]),
        "resource": repr(dict(span.resource.attributes)),
        "scope": repr(span.instrumentation_scope),
        "json": _json(span.to_json),
        "compact": _json(lambda: span.to_json(indent=None)),
    }  # fmt: skip


def _moment(time_ns: int | None) -> str:
    return "clock" if time_ns is not None and time_ns >= _CLOCK else repr(time_ns)


def _json(to_json: Callable[[], str]) -> str:
    try:
        return to_json()
    except (TypeError, ValueError, OverflowError) as error:  # bytes and mappings with odd keys have no JSON
        return type(error).__name__


def parent_seen(context: Context | None) -> str:
    """A parent context as a processor gets it."""
    return repr((context is None, get_current_span(context).get_span_context()))
