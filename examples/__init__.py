"""Programs that use otelkit, to read and to run."""
