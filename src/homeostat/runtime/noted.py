"""Which notes began and which ended since the last look, whatever their figures are by now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["Noted", "identity"]

_FIGURE = re.compile(r"(?<![\w@./:'\"-])(?<!version )\d+(?:[.,]\d+)*(?![\w@/'\"]|[.,:-]\d)")
_COUNTED = re.compile(r"# (\w+?)s?\b")


def identity(note: str) -> str:
    """Return a note without its figures: what stays the same while what it says lasts.

    Digits in a name, a path, an instant or a version are no figures.

    >>> identity("log: 1,548.2 MB are free") == identity("log: 9 MB are free")
    True
    >>> identity("1 request had 'code_1'") == identity("12 requests had 'code_1'")
    True
    >>> identity("fraud@2 is lost") == identity("fraud@3 is lost")
    False
    """
    return _COUNTED.sub(r"# \1", _FIGURE.sub("#", note))


class Noted:
    """Remembers the notes of the last look.

    >>> noted = Noted()
    >>> list(noted.lines(["disk: 5 MB are free"])), list(noted.lines(["disk: 4 MB are free"]))
    (['note: disk: 5 MB are free'], [])
    >>> list(noted.lines([]))
    ['no longer: disk: 5 MB are free']
    """

    def __init__(self) -> None:
        self._began: dict[str, str] = {}

    def lines(self, notes: Iterable[str]) -> Iterator[str]:
        """Yield a line for each note that began since the last look, and for each that ended.

        One that ended is called as it was when it began.
        """
        before, now = self._began, {identity(note): note for note in notes}
        self._began = {key: before.get(key, note) for key, note in now.items()}
        yield from sorted(f"note: {note}" for key, note in now.items() if key not in before)
        yield from sorted(f"no longer: {note}" for key, note in before.items() if key not in now)
