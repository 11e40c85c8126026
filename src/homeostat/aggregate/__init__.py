"""Exact, mergeable states over columns, and windows of them: the one kernel of all features."""
