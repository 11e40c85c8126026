"""A home goes with one log: what was folded from it must be in it."""

from __future__ import annotations

from homeostat.core.errors import HomeostatError
from homeostat.features.folded import folded_offset
from homeostat.runtime.home import Home

__all__ = ["OtherLog", "require_same_log"]


class OtherLog(HomeostatError):
    """A home was opened with a log that ends before what was folded."""

    def __init__(self, source: str, folded: int, end: int) -> None:
        super().__init__(
            f"log of {source!r}: it ends at offset {end}, and the home has folded offset {folded}; "
            "allowed: the log that the home was begun with, whole; open it with that log, or "
            "restore the newest copy there is"
        )


def require_same_log(home: Home) -> None:
    """Raise `OtherLog` unless the log has what the home has folded."""
    with home.store.reader() as reader:
        folded = {s.name: folded_offset(reader, s.name) for s in home.system.sources}
    for name, offset in folded.items():
        end = home.log.end(name).next_offset
        if offset >= end:
            raise OtherLog(name, offset, end)
