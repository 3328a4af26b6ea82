"""What makes records of a library's work; the registry chooses, one file a library does it."""
