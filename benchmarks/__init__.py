"""What telemetry costs: otelkit beside others, measured in one run (docs/performance.md says how)."""
