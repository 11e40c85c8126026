"""Freshness, drift and delayed quality; findings are values, alerts open and close once."""
