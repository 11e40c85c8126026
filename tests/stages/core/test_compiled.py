"""Loops are compiled for fixed types, and also where the machine code cannot be kept."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numba
import numpy as np
import pytest
from numba import types

from homeostat.core.compiled import INTS, compiled_for


def total(values: Any) -> int:
    found = 0
    for value in values:
        found += value
    return found


def test_without_a_place_for_the_code_it_is_compiled_all_the_same() -> None:
    plain = numba.njit
    plain(types.int64(INTS))(total)  # the first one loads parts of Numba that use njit themselves

    def nowhere(signature: Any, *, cache: bool = False, nogil: bool) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return plain(signature, nogil=nogil)

    with mock.patch.object(numba, "njit", nowhere):
        loop = compiled_for(types.int64, INTS)(total)
    assert loop(np.array([2**63 - 1, 1])) == -(2**63)


def test_other_types_are_refused() -> None:
    loop = compiled_for(types.int64, INTS)(total)
    with pytest.raises(TypeError, match="No matching definition"):
        loop(np.array([1.5]))
