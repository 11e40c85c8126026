"""Oracles, generators, stores in memory and conformance suites that users may run."""
