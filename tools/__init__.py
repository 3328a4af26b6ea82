"""Programs for whoever works on otelkit."""
