"""The one table of metrics that otelkit records: names, kinds, units, labels and buckets.

Instrumentation makes its instruments from it, the documentation is generated from it, and the tests compare what
arrives in Prometheus with it. Names and labels are those of OpenTelemetry's stable semantic conventions where they
have one (https://opentelemetry.io/docs/specs/semconv/); where they have none, the name begins with the library's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal[
    "counter",
    "updowncounter",
    "histogram",
    "observable_counter",
    "observable_updowncounter",
    "observable_gauge",
]

HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
DB_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
# The convention's messaging buckets end at 10 s; background tasks and their queues do not.
TASK_SECONDS = (*HTTP_SECONDS, 30.0, 60.0, 300.0, 900.0)

PROCESS_SLOT = "otelkit.process.slot"
"""The label that tells the gauges of a service's processes apart, where there are more than one: the lowest number that
no living one has.
"""

RESERVED_PREFIXES = ("http.", "db.", "messaging.", "otel.", "otelkit.")
"""What the names of application metrics must not begin with."""

# UCUM unit -> the suffix that Prometheus' UnderscoreEscapingWithSuffixes translation gives a name.
_PROMETHEUS_UNITS = {"s": "seconds", "By": "bytes"}


class Metric(NamedTuple):
    """One metric: what it is called, what it counts, and which labels it may carry."""

    name: str
    kind: Kind
    unit: str
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] | None = None
    state: bool = False
    """Whether its sum says how the processes are that live: what an ended one had in hand goes with it."""

    @property
    def monotonic(self) -> bool:
        """Whether the value only ever grows while the process lives."""
        return self.kind in ("counter", "observable_counter")

    @property
    def prometheus_name(self) -> str:
        """The name of its series in Prometheus; of a histogram, what `_count`, `_sum` and `_bucket` are added to."""
        parts = [self.name.replace(".", "_")]
        if not self.unit.startswith("{"):
            parts.append(_PROMETHEUS_UNITS.get(self.unit, self.unit))
        if self.monotonic:
            parts.append("total")
        return "_".join(parts)


HTTP_SERVER_REQUEST_DURATION = Metric(
    "http.server.request.duration",
    "histogram",
    "s",
    "Duration of HTTP server requests, to the last byte of the body.",
    (
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "url.scheme",
        "network.protocol.version",
        "error.type",
    ),
    HTTP_SECONDS,
)
HTTP_SERVER_ACTIVE_REQUESTS = Metric(
    "http.server.active_requests",
    "updowncounter",
    "{request}",
    "Requests that are being answered.",
    ("http.request.method", "url.scheme"),
    state=True,
)
DB_CLIENT_OPERATION_DURATION = Metric(
    "db.client.operation.duration",
    "histogram",
    "s",
    "Duration of database calls (SQL statements and Redis commands).",
    (
        "db.system.name",
        "db.namespace",
        "db.operation.name",
        "db.query.summary",
        "db.response.status_code",
        "error.type",
        "server.address",
        "server.port",
    ),
    DB_SECONDS,
)
DB_CLIENT_CONNECTION_COUNT = Metric(
    "db.client.connection.count",
    "observable_updowncounter",
    "{connection}",
    "Connections of a pool, idle and in use.",
    ("db.client.connection.pool.name", "db.client.connection.state"),
)
DB_CLIENT_CONNECTION_MAX = Metric(
    "db.client.connection.max",
    "observable_updowncounter",
    "{connection}",
    "Connections that a pool may open, overflow included.",
    ("db.client.connection.pool.name",),
)
DB_CLIENT_CONNECTION_PENDING = Metric(
    "db.client.connection.pending_requests",
    "observable_updowncounter",
    "{request}",
    "Callers that wait for a connection.",
    ("db.client.connection.pool.name",),
)
DB_CLIENT_CONNECTION_TIMEOUTS = Metric(
    "db.client.connection.timeouts",
    "counter",
    "{timeout}",
    "Waits for a connection that ended in a time-out.",
    ("db.client.connection.pool.name",),
)
DB_CLIENT_CONNECTION_WAIT_TIME = Metric(
    "db.client.connection.wait_time",
    "histogram",
    "s",
    "Time to get a connection from the pool.",
    ("db.client.connection.pool.name",),
    DB_SECONDS,
)
DB_CLIENT_CONNECTION_USE_TIME = Metric(
    "db.client.connection.use_time",
    "histogram",
    "s",
    "Time from taking a connection to giving it back.",
    ("db.client.connection.pool.name",),
    DB_SECONDS,
)
REDIS_CACHE_LOOKUPS = Metric(
    "redis.client.cache.lookups",
    "counter",
    "{lookup}",
    "Keys and fields read with GET, MGET, HGET and HMGET: a value is a hit, nil a miss.",
    ("redis.cache.result", "server.address", "server.port", "db.namespace"),
)
MESSAGING_PROCESS_DURATION = Metric(
    "messaging.process.duration",
    "histogram",
    "s",
    "Run time of Celery tasks.",
    (
        "messaging.system",
        "messaging.operation.name",
        "messaging.destination.name",
        "celery.task.name",
        "celery.task.state",
        "error.type",
    ),
    TASK_SECONDS,
)
MESSAGING_SENT = Metric(
    "messaging.client.sent.messages",
    "counter",
    "{message}",
    "Celery task messages sent to the broker.",
    ("messaging.system", "messaging.operation.name", "messaging.destination.name", "celery.task.name"),
)
MESSAGING_CONSUMED = Metric(
    "messaging.client.consumed.messages",
    "counter",
    "{message}",
    "Celery task messages that a worker took up.",
    ("messaging.system", "messaging.operation.name", "messaging.destination.name", "celery.task.name"),
)
CELERY_TASK_ACTIVE = Metric(
    "celery.task.active",
    "updowncounter",
    "{task}",
    "Tasks that are running.",
    ("messaging.destination.name", "celery.task.name"),
    state=True,
)
CELERY_TASK_QUEUE_DURATION = Metric(
    "celery.task.queue.duration",
    "histogram",
    "s",
    "Wait in the queue: from publishing, or from the ETA where that is later, to the start.",
    ("messaging.destination.name", "celery.task.name"),
    TASK_SECONDS,
)
CELERY_TASK_RETRIES = Metric(
    "celery.task.retries",
    "counter",
    "{retry}",
    "Attempts that asked to be run again.",
    ("messaging.destination.name", "celery.task.name", "error.type"),
)
CELERY_TASK_FAILURES = Metric(
    "celery.task.failures",
    "counter",
    "{failure}",
    "Tasks that failed for good.",
    ("messaging.destination.name", "celery.task.name", "error.type"),
)
PROCESS_CPU_TIME = Metric("process.cpu.time", "observable_counter", "s", "CPU time of the process.", ("cpu.mode",))
PROCESS_MEMORY_USAGE = Metric(
    "process.memory.usage", "observable_updowncounter", "By", "Resident memory of the process."
)
PROCESS_MEMORY_VIRTUAL = Metric(
    "process.memory.virtual", "observable_updowncounter", "By", "Virtual memory of the process."
)
PROCESS_THREAD_COUNT = Metric("process.thread.count", "observable_updowncounter", "{thread}", "Threads of the process.")
PROCESS_DESCRIPTORS = Metric(
    "process.unix.file_descriptor.count",
    "observable_updowncounter",
    "{file_descriptor}",
    "Open file descriptors of the process.",
)
PROCESS_UPTIME = Metric("process.uptime", "observable_gauge", "s", "Time since the process started.", (PROCESS_SLOT,))
CPYTHON_GC_COLLECTIONS = Metric(
    "cpython.gc.collections",
    "observable_counter",
    "{collection}",
    "Garbage collections by generation.",
    ("cpython.gc.generation",),
)
CPYTHON_GC_COLLECTED = Metric(
    "cpython.gc.collected_objects",
    "observable_counter",
    "{object}",
    "Objects that the garbage collector freed.",
    ("cpython.gc.generation",),
)
CPYTHON_GC_UNCOLLECTABLE = Metric(
    "cpython.gc.uncollectable_objects",
    "observable_counter",
    "{object}",
    "Objects that the garbage collector found but could not free.",
    ("cpython.gc.generation",),
)
ASYNCIO_LOOP_LAG = Metric(
    "asyncio.event_loop.lag",
    "histogram",
    "s",
    "How late a timer of the event loop fires: what blocking calls cost every other request.",
    (),
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
OTELKIT_RECORDS = Metric(
    "otelkit.records",
    "observable_counter",
    "{record}",
    "Spans, log records and metric data points by what became of them: the ledger.",
    ("otelkit.signal", "otelkit.outcome", "otelkit.reason"),
)
OTELKIT_SPOOL_RECORDS = Metric(
    "otelkit.spool.records",
    "observable_updowncounter",
    "{record}",
    "Spans, log records and metric data points that wait on disk for the next hop.",
    ("otelkit.signal",),
)
OTELKIT_TRUNCATED_VALUES = Metric(
    "otelkit.truncated_values",
    "observable_counter",
    "{value}",
    "Texts that were cut because they, or the record that they were in, were too long.",
    ("otelkit.signal",),
)

TABLE: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every metric of otelkit's own, in the order above."""

STATES = frozenset(metric.name for metric in TABLE if metric.state or metric.kind == "observable_updowncounter")
"""The metrics whose sum, over a service's many processes, is over those that live."""
