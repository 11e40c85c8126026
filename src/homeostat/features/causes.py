"""The causes that a skew audit can tell apart, and what proves each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

__all__ = ["CAUSES", "Cause", "Tell", "saying"]

Cause = Literal[
    "definition_changed",
    "code_changed",
    "event_erased",
    "event_altered",
    "late_event",
    "not_yet_known",
    "store_fault",
    "unexplained",
]
"""Why a logged feature value is not the one that the lake gives now."""

CAUSES: tuple[Cause, ...] = get_args(Cause)

Tell = Callable[[int, int], str]
"""Says what proves the cause of the difference at a row and a column."""


def saying(words: str) -> Tell:
    """Return what says the same of every difference.

    >>> saying("its code changed")(3, 1)
    'its code changed'
    """
    return lambda row, column: words
