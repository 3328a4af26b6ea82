"""What business code calls: spans, metrics, events, handled exceptions and bound values."""
