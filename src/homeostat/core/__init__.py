"""Durations, clocks, ids, hashing and errors; standard library and NumPy only."""
