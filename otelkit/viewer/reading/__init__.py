"""What is asked of the store: one module a question, each returns what the API answers as JSON."""
