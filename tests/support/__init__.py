"""What several tests need: a real OTLP receiver on loopback, and processes that end with their test."""
