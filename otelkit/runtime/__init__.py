"""The process around the telemetry: forks, its end, guarded calls, and what otelkit says about itself."""
