"""Telemetry in tests: captured spans, metrics and logs, and budgets for them."""
