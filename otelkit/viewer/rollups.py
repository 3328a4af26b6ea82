"""What a batch adds to the roll-ups, in SQL over the batch's own Arrow table, in the transaction that writes its rows.

Each batch appends what it counted, and readers add up: nothing is ever updated. Durations are counted in buckets whose
bounds grow by an eighth of e (13 %), so that percentiles of any sum of batches are within 7 %.
"""

from __future__ import annotations

MINUTE_NS = 60_000_000_000
N_PLUS_ONE = 10
"""How often one statement must run under one parent to be called N+1, where the sender does not say it."""

BUCKET = "CAST(floor(ln(greatest(duration_ns, 1000) / 1000.0) * 8) AS INTEGER)"
BUCKET_MS = "exp((bucket + 0.5) / 8) / 1000.0"
"""The duration that a bucket stands for, in ms."""

ROOT_FIRST = "CASE WHEN parent_id IS NULL THEN start_ns - 4611686018427387904 ELSE start_ns END"

_CACHES = "'redis', 'memcached', 'valkey'"

OF_SPANS = (
    f"""
    INSERT INTO {{slice}}.trace_parts
    SELECT trace_id, min(start_ns), max(start_ns + duration_ns), count(*), count(*) FILTER (status = 2),
        list(DISTINCT service), max(coalesce(repeated, 0)), min({ROOT_FIRST}),
        arg_min(struct_pack(name := name, service := service, status := status, http_status := http_status),
            {ROOT_FIRST})
    FROM batch_spans GROUP BY trace_id
    """,
    f"""
    INSERT INTO {{slice}}.red
    SELECT start_ns // {MINUTE_NS}, service, coalesce(route, name), {BUCKET}, count(*), count(*) FILTER (status = 2),
        max(start_ns + duration_ns)
    FROM batch_spans WHERE kind IN (2, 5) GROUP BY 1, 2, 3, 4
    """,
    f"""
    INSERT INTO {{slice}}.statements
    SELECT start_ns // {MINUTE_NS}, service, db_system, statement, {BUCKET}, count(*), max(duration_ns),
        arg_max(trace_id, duration_ns), arg_max(span_id, duration_ns)
    FROM batch_spans WHERE statement IS NOT NULL GROUP BY 1, 2, 3, 4, 5
    """,
    """
    INSERT INTO {slice}.repeats
    SELECT trace_id, parent_id, service, statement, count(*), false, max(start_ns)
    FROM batch_spans WHERE statement IS NOT NULL AND parent_id IS NOT NULL GROUP BY 1, 2, 3, 4 HAVING count(*) > 2
    """,
    """
    INSERT INTO {slice}.repeats
    SELECT trace_id, span_id, service, coalesce(json_extract_string(attributes, '$."otelkit.db.n_plus_one.statement"'),
        name), repeated, true, start_ns
    FROM batch_spans WHERE repeated IS NOT NULL
    """,
    f"""
    INSERT INTO {{slice}}.edges
    SELECT start_ns // {MINUTE_NS}, service, 'service', db_system,
        CASE WHEN db_system IN ({_CACHES}) THEN 'cache' ELSE 'database' END, {BUCKET}, count(*),
        count(*) FILTER (status = 2)
    FROM batch_spans WHERE kind = 3 AND db_system IS NOT NULL GROUP BY 1, 2, 4, 6
    """,
    """
    INSERT INTO {slice}.services
    SELECT service, count(*), 0, count(*) FILTER (status = 2), max(start_ns + duration_ns)
    FROM batch_spans GROUP BY service
    """,
)
OF_LOGS = (
    """
    INSERT INTO {slice}.services
    SELECT service, 0, count(*), count(*) FILTER (severity >= 17), max(time_ns) FROM batch_logs GROUP BY service
    """,
)
OF_RESOURCES = ("INSERT INTO {slice}.seen SELECT id, max(first_ns) FROM batch_resources GROUP BY id",)
OF_TABLE = {"spans": OF_SPANS, "logs": OF_LOGS, "resources": OF_RESOURCES}
