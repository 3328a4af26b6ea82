"""The embedded backend of `otelkit ui`: receives OTLP, keeps it in DuckDB, and answers questions about it.

The modules stand in the data's way: `receive` and `inflate` take requests, `decode_*` make rows of them, `writer` and
`store` keep rows and their roll-ups, `reading` answers, `live` tells who listens. Needs the extra `otelkit[ui]`;
nothing of it is imported by a process that only sends.
"""
