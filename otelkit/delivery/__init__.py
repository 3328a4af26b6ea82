"""Carries records to the next hop: queue, OTLP bytes, sending, and the ledger of all of it."""
