"""What a broken law raises, in every suite of checks."""

from __future__ import annotations

from homeostat.core.errors import HomeostatError

__all__ = ["LawBroken", "hold"]


class LawBroken(HomeostatError, AssertionError):
    """Raised explicitly, so that a check still bites under `python -O`."""


def hold(holds: bool, law: str) -> None:
    """Raise `LawBroken` unless the law holds.

    >>> hold(1 + 1 == 2, "one and one are two")
    """
    if not holds:
        raise LawBroken(law)
