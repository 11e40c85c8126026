"""Names for the arrays of the kernel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Floats", "Ints"]

Ints = npt.NDArray[np.int64]
"""64-bit integers: instants in microseconds, row numbers, exact states."""

Floats = npt.NDArray[np.float64]
"""Feature and input values; NaN is missing."""

Bools = npt.NDArray[np.bool_]
