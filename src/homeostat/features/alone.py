"""Whether an on-demand function answers for a row what it answers among others.

It is asked in training for a million rows at once and in serving for one. What depends on the other
rows, as `x - x.mean()` does, would be another number there: it is found when it is trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.core.errors import HomeostatError
from homeostat.declare.views import OnDemand

__all__ = ["BatchDependent", "require_alone"]

SAMPLE = 32
"""So many rows are asked for one by one."""

TOLERANCE = 1e-9
"""Two values may differ so much, as functions of NumPy round by the length of an array."""


class BatchDependent(HomeostatError, ValueError):
    """An on-demand function gives a row another value when other rows are asked with it."""

    def __init__(self, name: str, row: int, together: float, apart: object, among: int) -> None:
        beside = "alone" if among == 1 else f"among {among:,} of them"
        super().__init__(
            f"on-demand feature {name!r}: row {row} gives {together!r} among all rows and {apart} "
            f"{beside}; allowed: a value that depends on its own row alone, as a request is "
            "answered by itself; take what describes many rows from a feature view, or write it as "
            "a constant"
        )


def require_alone(feature: OnDemand, inputs: Sequence[Floats], found: Floats) -> None:
    """Raise `BatchDependent` if a function's values depend on which rows are asked together.

    Args:
        feature: the on-demand feature.
        inputs: the function's arguments, float64 of shape (n,) each.
        found: what it gave for all rows, float64 of shape (n,).

    Every second row is asked again, then the others, and a sample of rows one by one.
    """
    for rows in _parts(len(found)):
        try:
            again = np.asarray(
                feature.function(*(values[rows].copy() for values in inputs)), dtype=np.float64
            )
        except Exception as broken:
            what = f"raises {broken!r}"
            raise BatchDependent(
                feature.name, int(rows[0]), float(found[rows[0]]), what, len(rows)
            ) from broken
        if again.shape != rows.shape:
            what = f"has the shape {again.shape}"
            raise BatchDependent(feature.name, int(rows[0]), float(found[rows[0]]), what, len(rows))
        same = np.isclose(again, found[rows], rtol=TOLERANCE, atol=0.0, equal_nan=True)
        if not same.all():
            place = int(np.argmin(same))
            row, apart = int(rows[place]), repr(float(again[place]))
            raise BatchDependent(feature.name, row, float(found[row]), apart, len(rows))


def _parts(n: int) -> Iterator[Ints]:
    if n > 1:
        yield np.arange(0, n, 2)
        yield np.arange(1, n, 2)
    for row in np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.int64)).tolist():
        yield np.array([row])
