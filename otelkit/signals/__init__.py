"""Plain callables that shape a record between its making and its delivery."""
