"""The format of the live state: the layout of records, older rows and pages."""

__all__ = ["STATE_FORMAT"]

STATE_FORMAT = 5
"""State in another format is never read: views are filled again from the lake."""
