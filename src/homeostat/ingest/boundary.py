"""How far a query was read: the last value of its order, and the rows there that were taken."""

from __future__ import annotations

import json
from collections import deque
from datetime import timedelta
from zoneinfo import ZoneInfo

from homeostat.ingest.local_times import repeated_since
from homeostat.ingest.rows import as_text, earlier, from_text

__all__ = ["Boundary"]

_REMEMBERED = 10_000
"""Rows near the boundary that are told apart from new ones. Beyond, the intake drops them."""


class Boundary:
    """The boundary between rows that were taken and those to come.

    Rows are asked for from the boundary on, itself included: others may have the same value, and
    with an overlap even lesser ones may have come since. So may they where values are local times
    and the boundary lies in an hour that comes twice: rows are asked for from its beginning on.
    Those that were taken are known by their digest.

    Args:
        said: the line that the log keeps, None or empty for the beginning.
        behind: the overlap.
        source: what errors name.
        zone: what instants without a zone mean.

    >>> boundary = Boundary(None, 0, "taps")
    >>> boundary.takes(7, "aa"), boundary.takes(7, "bb"), boundary.takes(7, "aa")
    (True, True, False)
    >>> Boundary(boundary.text(), 0, "taps").takes(7, "bb")
    False
    """

    def __init__(
        self, said: str | None, behind: timedelta | int, source: str, zone: ZoneInfo | None = None
    ) -> None:
        found = json.loads(said) if said else {"at": None, "rows": []}
        self._behind, self._source, self._zone = behind, source, zone
        self._at = _read(found["at"])
        self._rows = deque((_read(text), str(digest)) for text, digest in found["rows"])
        self._known = {digest for _, digest in self._rows}

    @property
    def start(self) -> object:
        """The least value that rows may still come with, None before the first row."""
        if self._at is None:
            return None
        return repeated_since(earlier(self._at, self._behind, self._source), self._zone)

    def takes(self, value: object, digest: str) -> bool:
        """Return whether a row is new; if it is, the boundary moves over it."""
        if digest in self._known:
            return False
        self._rows.append((value, digest))
        self._known.add(digest)
        if value is not None and (
            not (self._behind or self._zone) or self._at is None or _is_less(self._at, value)
        ):
            self._at = value
        return True

    def forget(self) -> None:
        """Keep only rows that may be asked for again, and not too many."""
        start = self.start
        if self._behind or start != self._at:
            kept = [row for row in self._rows if row[0] is None or not _is_less(row[0], start)]
        else:
            kept = [row for row in self._rows if row[0] is None or row[0] == start]
        self._rows = deque(kept[-_REMEMBERED:])
        self._known = {digest for _, digest in self._rows}

    def text(self) -> str:
        """Return the line that the log keeps."""
        rows = [(self._text(value), digest) for value, digest in self._rows]
        return json.dumps({"at": self._text(self._at), "rows": rows}, separators=(",", ":"))

    def _text(self, value: object) -> str | None:
        return None if value is None else as_text(value, self._source)


def _read(text: str | None) -> object:
    return None if text is None else from_text(text)


def _is_less(value: object, other: object) -> bool:
    return bool(value < other)  # type: ignore[operator]
