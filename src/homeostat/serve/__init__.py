"""Answers requests: look up, predict, degrade, explain, log; over HTTP or in the same process."""
