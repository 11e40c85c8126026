"""Events come in: the log, decoding, validation, deduplication, quarantine."""
