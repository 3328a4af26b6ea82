"""Settings: one table of them, and the way from environment, pyproject.toml and keyword arguments to values."""
