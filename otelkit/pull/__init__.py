"""What a Prometheus server that pulls is answered, at a port of otelkit's own or where the application mounts it."""
