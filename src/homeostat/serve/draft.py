"""Answers in the making: which rows have one, from whom, and what failed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from homeostat.serve.needs import Unasked
from homeostat.serve.ports import Floats, ModelBroken

__all__ = ["Draft"]


class Draft:
    """The columns of the answers to n requests, filled in any order; `unasked` grows by the way.

    >>> draft = Draft(2, threshold=0.5)
    >>> draft.mark(draft.open(), "no_model")
    >>> draft.default([0, 1], 0.1)
    >>> draft.scores, draft.degraded[0], draft.open()
    ([0.1, 0.1], ['no_model'], [])
    """

    __slots__ = ("arms", "degraded", "scores", "threshold", "thresholds", "unasked", "versions")

    def __init__(self, n: int, threshold: float, unasked: Unasked | None = None) -> None:
        self.unasked: Unasked = [] if unasked is None else unasked
        self.threshold = threshold
        self.arms: list[str] = [""] * n
        self.versions: list[int | None] = [None] * n
        self.scores: list[float] = [0.0] * n
        self.thresholds: list[float] = [threshold] * n
        self.degraded: list[list[str]] = [[] for _ in range(n)]

    def open(self) -> list[int]:
        """Return the rows that nobody has answered yet."""
        return [row for row, arm in enumerate(self.arms) if not arm]

    def mark(self, rows: Sequence[int], cause: str) -> None:
        """Note a failure that these rows met."""
        for row in rows:
            self.degraded[row].append(cause)

    def reopen(self, cause: str) -> None:
        """Throw every answer away, because of `cause`."""
        rows = range(len(self.arms))
        self.arms = [""] * len(self.arms)
        self.mark(rows, cause)

    def fill(self, role: str, by: tuple[int, float], rows: Sequence[int], scores: Floats) -> None:
        """Take the scores of one arm; raise `ModelBroken` if some rows got no usable one.

        `by` are the version of the arm and its threshold.
        """
        if scores.shape != (len(rows),):
            raise ModelBroken(f"{role}: scores of shape {scores.shape} for {len(rows)} rows")
        unusable = 0
        for row, score in zip(rows, scores.tolist(), strict=True):
            if not isfinite(score):
                unusable += 1
                continue
            self.arms[row], self.versions[row] = role, by[0]
            self.scores[row], self.thresholds[row] = score, by[1]
        if unusable:
            raise ModelBroken(f"{role}: {unusable} of {len(rows)} scores are not finite")

    def default(self, rows: Sequence[int], score: float) -> None:
        """Answer rows with the declared default score."""
        for row in rows:
            self.arms[row], self.versions[row] = "score", None
            self.scores[row], self.thresholds[row] = score, self.threshold
