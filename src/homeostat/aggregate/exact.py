"""Sums of float64 that are exact until one final rounding, whatever the order or grouping.

A value is split into three int64 limbs, in units of 2^-10, 2^-42 and 2^-74. Limbs add in wrapping
int64; `rounded` carries and rounds once, to the float64 nearest to the true sum. Values below
2^-22 are first rounded to a multiple of 2^-74. Negative zero is zero.
"""

from __future__ import annotations

import numpy as np

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.core.errors import HomeostatError

__all__ = [
    "LARGEST",
    "LIMBS",
    "SCALE",
    "WEIGHT_LIMIT",
    "SumRefused",
    "ValueRefused",
    "rounded",
    "running_sums",
    "split",
    "units",
    "whole",
]

LIMBS = 3
SCALE = 2**74
"""The lowest limb counts in units of 1 / SCALE."""

LARGEST = 2.0**52
"""Values of this magnitude and beyond are refused."""

WEIGHT_LIMIT = 2**62
"""The magnitudes of the top limbs of one sum stay below this, so it can never wrap."""


class ValueRefused(HomeostatError, ValueError):
    """A value that cannot be summed exactly: not a number, infinite, or 2^52 and beyond."""

    def __init__(self, where: str, value: float) -> None:
        super().__init__(
            f"{where}: {value!r} cannot be summed exactly; allowed: finite numbers below 2^52 "
            "in magnitude (2^26 for a variance); quarantine the event, or change the unit of "
            "the column"
        )


class SumRefused(HomeostatError, ArithmeticError):
    """A sum that could leave the range in which it is exact."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where}: the values of one window add up to 2^52 or more in magnitude; allowed: "
            "sums below 2^52 (2^62 for whole numbers); change the unit of the column, or "
            "shorten the window"
        )


def _refuse(values: Floats | Ints, good: Bools, where: str) -> None:
    if not good.all():
        raise ValueRefused(where, values[~good][0].item())


def split(values: Floats, where: str = "split") -> Ints:
    """Return the limbs of each value, shape (n, 3); raise `ValueRefused` beyond the range.

    >>> split(np.array([1.5, -2.0**-42])).tolist()
    [[1536, 0, 0], [0, -1, 0]]
    """
    from homeostat.aggregate.kernel import split_values

    limbs = np.empty((LIMBS, len(values)), np.int64)  # each limb in one piece
    refused = split_values(np.ascontiguousarray(values), limbs)
    if refused >= 0:
        raise ValueRefused(where, float(values[refused]))
    return limbs.T


def running_sums(values: Floats, found: Ints, where: str = "running_sums") -> None:
    """Write the running sums of the limbs of `values` into `found` (3, n + 1), from 0 on.

    NaN is no value. Raises `ValueRefused` beyond the range.

    >>> found = np.empty((3, 3), np.int64)
    >>> running_sums(np.array([1.5, 0.5]), found)
    >>> found[0].tolist()
    [0, 1536, 2048]
    """
    from homeostat.aggregate.kernel import add_limbs

    found[:, 0] = 0
    refused = add_limbs(np.ascontiguousarray(values), found)
    if refused >= 0:
        raise ValueRefused(where, float(values[refused]))


def whole(values: Ints, where: str = "whole") -> Ints:
    """Return whole numbers as their own single limb, shape (n, 1); refuse 2^52 and beyond."""
    limit = int(LARGEST)
    _refuse(values, (values > -limit) & (values < limit), where)
    return values.reshape(-1, 1)


def units(limbs: list[int] | tuple[int, ...]) -> int:
    """Return one sum in units of 1 / SCALE (three limbs) or 1 (one limb).

    `units(limbs) / SCALE` is the correctly rounded sum: Python divides integers exactly.

    >>> units((1536, 0, 0)) / SCALE
    1.5
    """
    if len(limbs) == 1:
        return limbs[0]
    high, middle, low = limbs
    return (high << 64) + (middle << 32) + low


def rounded(limbs: Ints) -> Floats:
    """Return the float64 nearest to each sum, ties to even; `limbs` has shape (n, 1) or (n, 3).

    >>> rounded(split(np.array([0.1, 0.2, -7.0]))).tolist()
    [0.1, 0.2, -7.0]
    """
    if limbs.shape[1] == 1:
        return limbs[:, 0].astype(np.float64)
    from homeostat.aggregate.kernel import rounded_sums

    found: Floats = rounded_sums(limbs)
    return found
