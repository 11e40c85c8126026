"""The causes that a skew audit can tell apart, and what proves each of them."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["CAUSES", "Cause"]

Cause = Literal[
    "definition_changed",
    "code_changed",
    "event_erased",
    "event_altered",
    "late_event",
    "store_fault",
    "unexplained",
]
"""Why a logged feature value is not the one that the lake gives now."""

CAUSES: tuple[Cause, ...] = get_args(Cause)
