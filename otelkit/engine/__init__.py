"""The providers behind OpenTelemetry's globals: what makes a record of a call."""
