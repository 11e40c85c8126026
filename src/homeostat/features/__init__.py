"""Feature values: point in time for training sets, folded and read live, and the audit of both."""
