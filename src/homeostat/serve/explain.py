"""Reasons: which features moved a score, and which way."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from homeostat.features.assemble import Features
    from homeostat.serve.ports import Floats

__all__ = ["Reason", "reasons"]


class Reason(msgspec.Struct, frozen=True):
    """One feature's part in a score; contributions add up to the score before its link."""

    feature: str
    value: float | str | None
    contribution: float
    direction: str


def reasons(
    names: Sequence[str], features: Features, row: int, contributions: Floats, top: int = 5
) -> list[Reason]:
    """Return the features that moved the score most, strongest first.

    Args:
        names: of the features, in the order of the matrix.
        features: what the model was given.
        row: the row to explain.
        contributions: float64[n, features + 1], in the units of the raw score; the last column
            is the base value.
        top: at most so many; features that moved nothing are left out.
    """
    parts = contributions[row, : len(names)].tolist()
    order = sorted(range(len(names)), key=lambda i: (-abs(parts[i]), i))
    return [
        Reason(
            names[i], _value(names[i], features, row, i), parts[i],
            "raises" if parts[i] > 0 else "lowers",
        )
        for i in order[:top]
        if parts[i] != 0
    ]  # fmt: skip


def _value(name: str, features: Features, row: int, column: int) -> float | str | None:
    categories = features.categories.get(name)
    if categories is not None:
        return categories[row]
    value = float(features.matrix[row, column])
    return None if isnan(value) else value
