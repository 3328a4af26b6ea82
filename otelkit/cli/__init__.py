"""The `otelkit` command, one small file a subcommand."""
