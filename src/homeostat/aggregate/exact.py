"""Sums of float64 that are exact until one final rounding, whatever the order or grouping.

A value is split into three int64 limbs, in units of 2^-10, 2^-42 and 2^-74. Limbs add in wrapping
int64; `rounded` carries and rounds once, to the float64 nearest to the true sum. Values below
2^-22 are first rounded to a multiple of 2^-74. Negative zero is zero.

The square of a value is not rounded: it is a whole number below 2^252 in units of 2^-148, and its
digits of 36 bits are seven lanes that add alike (three for a whole number, in units of 1).

A sum is exact as long as the magnitudes of its values add up to less than 2^52 (2^62 for whole
numbers). Beyond, and with a value of 2^52 or more among them, it has no value: the top limb of such
a value is `BEYOND`, so that it weighs more than any sum may.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.core.errors import HomeostatError

__all__ = [
    "BEYOND",
    "LARGEST",
    "LIMBS",
    "MOST_SQUARED",
    "MOST_SUMMED",
    "SCALE",
    "SQUARES",
    "WEIGHT_LIMIT",
    "WHOLE_SQUARES",
    "ValueRefused",
    "rounded",
    "running_squares",
    "running_sums",
    "split",
    "square_units",
    "squares",
    "units",
    "variances",
    "whole",
]

LIMBS = 3
SCALE = 2**74
"""The lowest limb counts in units of 1 / SCALE."""

SQUARES, WHOLE_SQUARES = 7, 3
"""Lanes of the square of a float64, and of a whole number."""

LARGEST = 2.0**52
"""Values of this magnitude and beyond have no exact sum."""

WEIGHT_LIMIT = 2**62
"""The magnitudes of the top limbs of one sum stay below this, so it can never wrap."""

BEYOND = WEIGHT_LIMIT
"""The top limb of a value without an exact sum."""

MOST_SUMMED, MOST_SQUARED = 2**31, 2**28
"""No limb of a sum of fewer values, and no lane of fewer squares, can have wrapped."""

_DIGIT = 36
"""Bits of a digit of a square."""


class ValueRefused(HomeostatError, ValueError):
    """A value that is no finite number."""

    def __init__(self, where: str, value: float) -> None:
        super().__init__(
            f"{where}: {value!r} cannot be summed; allowed: finite numbers; quarantine the event, "
            "or leave the value out (null)"
        )


def split(values: Floats, where: str = "split") -> Ints:
    """Return the limbs of each value, shape (n, 3); raise `ValueRefused` for one not finite.

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

    NaN is no value. Raises `ValueRefused` for infinities.

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


def squares(values: Floats, *, is_whole: bool) -> Ints:
    """Return the lanes of the square of each value, shape (n, 7), or (n, 3) for whole numbers.

    Values without an exact sum, and NaN, have none: all lanes are 0.

    >>> squares(np.array([3.0, -(2.0**40)]), is_whole=True).tolist()
    [[9, 0, 0], [0, 0, 256]]
    """
    from homeostat.aggregate.kernel import split_squares

    lanes = np.empty((WHOLE_SQUARES if is_whole else SQUARES, len(values)), np.int64)
    split_squares(np.ascontiguousarray(values), _scale_bits(is_whole), lanes)
    return lanes.T


def running_squares(values: Floats, found: Ints, *, is_whole: bool) -> None:
    """Write the running sums of the lanes of squares into `found` (7 or 3, n + 1), from 0 on."""
    from homeostat.aggregate.kernel import add_squares

    found[:, 0] = 0
    add_squares(np.ascontiguousarray(values), _scale_bits(is_whole), found)


def _scale_bits(is_whole: bool) -> int:
    return 0 if is_whole else SCALE.bit_length() - 1


def whole(values: Floats) -> Ints:
    """Return whole numbers as their own single limb, shape (n, 1).

    >>> whole(np.array([-5.0, 1e18])).tolist() == [[-5], [BEYOND]]
    True
    """
    beyond = np.abs(values) >= LARGEST
    if beyond.any():
        return np.where(beyond, BEYOND, np.where(beyond, 0, values).astype(np.int64)).reshape(-1, 1)
    return values.astype(np.int64).reshape(-1, 1)


def units(limbs: Sequence[int]) -> int:
    """Return one sum in units of 1 / SCALE (three limbs) or 1 (one limb).

    `units(limbs) / SCALE` is the correctly rounded sum: Python divides integers exactly.

    >>> units((1536, 0, 0)) / SCALE
    1.5
    """
    if len(limbs) == 1:
        return limbs[0]
    high, middle, low = limbs
    return (high << 64) + (middle << 32) + low


def square_units(lanes: Sequence[int]) -> int:
    """Return one sum of squares in units of 1 / SCALE^2 (seven lanes) or 1 (three lanes).

    Squares are not negative, so neither are lanes: what looks so is beyond 2^63.
    """
    return sum((lane % 2**64) << (_DIGIT * place) for place, lane in enumerate(lanes))


def variances(counts: Ints, sums: Ints, lanes: Ints) -> Floats:
    """Return the variance of each row from its count, sum (n, 1 or 3) and sum of squares.

    It is correctly rounded; NaN where there is no value, or so many that lanes may have wrapped.

    >>> values, n = np.array([3e7 + 0.25, 3e7 + 0.75]), np.array([2])
    >>> total = split(values).sum(axis=0, keepdims=True)
    >>> variances(n, total, squares(values, is_whole=False).sum(axis=0, keepdims=True)).tolist()
    [0.0625]
    """
    from homeostat.aggregate.kernel import variances as compiled

    found: Floats = compiled(np.ascontiguousarray(counts), sums, lanes)
    return found


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
