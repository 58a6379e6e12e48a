"""A `TaskGraph` -> a checked `Schedule`: streams, order, waits, memory."""
