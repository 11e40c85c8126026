"""Events at rest: Delta tables by day, read as of an instant or a version, and by SQL."""
